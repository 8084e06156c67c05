// Publishes a message, receives it and acks it. Needs Node alone.
import { connect } from "node:net";
import { createInterface } from "node:readline";
const server = connect(process.env.GMQ_PORT ?? 4567, process.env.GMQ_HOST ?? "localhost");
const lines = createInterface({ input: server })[Symbol.asyncIterator]();
const ask = async (request) => (server.write(JSON.stringify(request) + "\n"), JSON.parse((await lines.next()).value));
console.log(await ask({ op: "publish", queue: "hello", body: { from: "JavaScript" } }));
for (const m of (await ask({ op: "receive", queue: "hello", wait: "5s" })).messages)
  console.log(m.body, await ask({ op: "ack", queue: "hello", seq: m.seq, receipt: m.receipt }));
server.end();
