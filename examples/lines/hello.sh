#!/bin/bash
# Publishes a message, receives it and acks it. Needs bash alone.
exec 3<>"/dev/tcp/${GMQ_HOST:-localhost}/${GMQ_PORT:-4567}"
ask() { echo "$1" >&3; read -r reply <&3; echo "$reply"; }
ask '{"op":"publish","queue":"hello","body":"hello from a shell"}'
ask '{"op":"receive","queue":"hello","wait":"5s"}'
[[ $reply =~ '"seq":'([0-9]+) ]]
ask '{"op":"ack","queue":"hello","seq":'"${BASH_REMATCH[1]}"'}'
