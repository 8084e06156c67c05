# Publishes a message, receives it and acks it. Needs Python 3 alone.
import json, os, socket
server = socket.create_connection((os.environ.get("GMQ_HOST", "localhost"), os.environ.get("GMQ_PORT", "4567"))).makefile("rw")
def ask(**request):
    print(json.dumps(request), file=server, flush=True)
    return json.loads(server.readline())
print(ask(op="publish", queue="hello", body={"from": "Python"}))
for m in ask(op="receive", queue="hello", wait="5s")["messages"]:
    print(m["body"], ask(op="ack", queue="hello", seq=m["seq"], receipt=m["receipt"]))
