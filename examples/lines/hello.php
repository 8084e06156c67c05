<?php // Publishes a message, receives it and acks it. Needs PHP alone.
$server = stream_socket_client("tcp://" . (getenv("GMQ_HOST") ?: "localhost") . ":" . (getenv("GMQ_PORT") ?: "4567"));
function ask(array $request) {
    global $server;
    fwrite($server, json_encode($request) . "\n");
    return json_decode(fgets($server), true);
}
echo json_encode(ask(["op" => "publish", "queue" => "hello", "body" => ["from" => "PHP"]])), "\n";
foreach (ask(["op" => "receive", "queue" => "hello", "wait" => "5s"])["messages"] as $m)
    echo json_encode([$m["body"], ask(["op" => "ack", "queue" => "hello", "seq" => $m["seq"], "receipt" => $m["receipt"]])]), "\n";
