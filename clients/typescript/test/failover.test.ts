// The client and a cluster: a real one, and nodes that say just what a test is about.

import assert from "node:assert/strict";
import * as net from "node:net";
import { networkInterfaces } from "node:os";
import { createInterface } from "node:readline";
import { test as run, type TestContext } from "node:test";
import { connect, GmqError, type Client, type Message, type Options } from "../src/index.ts";
import { address, Roster } from "../src/nodes.ts";
import { Server } from "./server.ts";

// Where nothing goes on any more a test waits for it; that has an end.
const test = (name: string, what: (t: TestContext) => unknown): void => void run(name, { timeout: 60_000 }, async (t) => { await what(t as TestContext); });

type Line = { op: string; id?: number; [field: string]: unknown };

/** A Fake is a node that is at an address and says what it is told to. */
class Fake {
  port = 0;
  /** Requests but hello and ping, and who reads them. */
  #lines: Line[] = [];
  #readers: ((l: Line) => void)[] = [];
  #listener: net.Server | undefined;
  #sockets = new Set<net.Socket>();
  nodes: Fake[] = []; // of whom it tells
  visits = 0;

  static async start(t: TestContext, host = "127.0.0.1"): Promise<Fake> {
    const f = new Fake();
    f.#listener = net.createServer((socket) => {
      f.#sockets.add(socket);
      f.visits++;
      socket.on("error", () => {}).on("close", () => f.#sockets.delete(socket));
      createInterface({ input: socket }).on("line", (text) => {
        const line = JSON.parse(text) as Line;
        if (line.op === "ping") f.ok(line);
        else if (line.op === "hello") f.ok(line, { server: "gmq", version: "test", node: "x", protocol: 1, max_message_bytes: 1024, storages: [], nodes: f.nodes.map((n) => `127.0.0.1:${n.port}`) });
        else (f.#readers.shift() ?? ((l) => f.#lines.push(l)))(line);
      });
    });
    await new Promise<void>((go) => f.#listener!.listen(0, host, go));
    f.port = (f.#listener!.address() as net.AddressInfo).port;
    t.after(() => f.stop());
    return f;
  }

  /** next is the next request. */
  async next(op: string): Promise<Line> {
    const line = this.#lines.shift() ?? await new Promise<Line>((go) => this.#readers.push(go));
    assert.equal(line.op, op);
    return line;
  }

  ok(to: Line, fields: object = {}): void { this.say({ id: to.id, ok: true, ...fields }); }
  refuse(to: Line, code: string): void { this.say({ id: to.id, ok: false, error: { code, message: "as the test wants it", retryable: true } }); }
  say(frame: object): void { for (const s of this.#sockets) s.write(JSON.stringify(frame) + "\n"); }

  /** hangUp ends its connections; stop lets nobody in any more, besides. */
  hangUp(): void { for (const s of this.#sockets) s.destroy(); }
  stop(): void { this.#listener?.close(); this.hangUp(); }
}

/** town starts nodes that tell of each other. */
async function town(t: TestContext, n: number): Promise<Fake[]> {
  const all = await Promise.all(Array.from({ length: n }, () => Fake.start(t)));
  for (const f of all) f.nodes = all;
  return all;
}

async function client(t: TestContext, f: { port: number }, o: Options = {}): Promise<Client> {
  const c = await connect({ host: "127.0.0.1", port: f.port, backoff: [1, 20], ...o });
  t.after(() => c.close(0));
  return c;
}

const code = (want: string) => (e: unknown): boolean => e instanceof GmqError && e.code === want;
const stored = (seq: number): object => ({ seq, stored: "quorum" });

test("addresses", () => {
  assert.deepEqual(address("a", 1), { host: "a", port: 1 });
  assert.deepEqual(address("a:2", 1), { host: "a", port: 2 });
  assert.deepEqual(address("[::1]:2", 1), { host: "::1", port: 2 });
  assert.deepEqual(address("::1", 1), { host: "::1", port: 1 });
  const r = new Roster({ host: "a", nodes: ["b", "a:4567", "c:1"] });
  const next = (): string => r.next().map((a) => `${a.host}:${a.port}`).join(" ");
  assert.equal(next(), "a:4567 b:4567 c:1");
  r.tried({ host: "b", port: 4567 });
  r.hear(["d:2", "c:1"]);
  assert.equal(next(), "c:1 d:2 a:4567 b:4567");
  assert.equal(new Roster({ nodes: ["b"] }).others, false);
  assert.equal(new Roster({}).next()[0]!.host, "localhost");
});

test("a lost node is followed by those that it has told of", async (t) => {
  const [a, b] = await town(t, 2) as [Fake, Fake];
  const c = await client(t, a);
  const once = c.queue("q").publish(1, { dedupId: "x" });
  const maybe = assert.rejects(c.queue("q").publish(2), code("unknown_outcome"));
  const first = await a.next("publish");
  a.stop();
  const again = await b.next("publish");
  assert.deepEqual(again, first);
  b.ok(again, stored(4));
  assert.equal((await once).seq, 4);
  await maybe;
});

test("given nodes are tried in turn, and no others where that is wanted", async (t) => {
  const [gone, a, b] = await town(t, 3) as [Fake, Fake, Fake];
  gone.stop();
  const c = await client(t, gone, { nodes: [`127.0.0.1:${a.port}`], onlyGiven: true });
  assert.equal(a.visits, 1);
  a.hangUp();
  const sent = c.queue("q").publish(1, { dedupId: "x" }); // the loss may not have been noticed yet
  a.ok(await a.next("publish"), stored(1));
  await sent;
  assert.equal(b.visits, 0);
  await assert.rejects(client(t, gone, { nodes: [`127.0.0.1:${gone.port}`] }), /ECONNREFUSED/);
});

test("a node that finds no leader is left, when what cannot be asked again has its answer", async (t) => {
  const [a, b] = await town(t, 2) as [Fake, Fake];
  const c = await client(t, a);
  const sent = Array.from({ length: 4 }, (_, i) => c.queue("q").publish(i).then((p) => String(p.seq), (e: GmqError) => e.code));
  const asked: Line[] = [];
  for (let i = 0; i < 4; i++) asked.push(await a.next("publish"));
  a.refuse(asked[2]!, "no_quorum");
  a.refuse(asked[0]!, "no_quorum");
  a.refuse(asked[1]!, "unknown_outcome");
  assert.equal(await sent[1], "unknown_outcome");
  assert.equal(b.visits, 0, "something is without an answer");
  const later = c.queue("q").publish(4).then((p) => String(p.seq));
  a.ok(asked[3]!, stored(1));
  for (const i of [0, 2]) {
    const again = await b.next("publish");
    assert.deepEqual(again, asked[i], "in the order in which they came");
    b.ok(again, stored(2 + i));
  }
  const last = await b.next("publish");
  assert.equal(last["body"], 4);
  // Where the next one finds none either it is asked for a while: maybe nobody does.
  b.refuse(last, "no_quorum");
  b.ok(await b.next("publish"), stored(9));
  assert.deepEqual(await Promise.all([...sent, later]), ["2", "unknown_outcome", "4", "1", "9"]);
  assert.equal(a.visits, 1);
});

test("what nobody leads is asked again, for as long as the caller waits", async (t) => {
  const [a] = await town(t, 1) as [Fake];
  const c = await client(t, a);
  const sent = c.queue("q").publish(1, { dedupId: "x" });
  for (const code of ["no_quorum", "unknown_outcome", "no_quorum"]) a.refuse(await a.next("publish"), code);
  a.ok(await a.next("publish"), stored(7));
  assert.equal((await sent).seq, 7);
  assert.equal(c.link, 1);

  const short = await client(t, a, { timeout: 500, backoff: [10_000, 10_000] });
  const refused = short.queue("q").publish(1);
  a.refuse(await a.next("publish"), "no_quorum");
  await assert.rejects(refused, code("no_quorum"));
  const maybe = short.queue("q").publish(1, { dedupId: "y" });
  a.refuse(await a.next("publish"), "unknown_outcome");
  await assert.rejects(maybe, code("unknown_outcome"));
});

test("a server that closes gets no new work, and acks", async (t) => {
  const [a] = await town(t, 1) as [Fake];
  const c = await client(t, a);
  const got = c.queue("q").receive({ max: 2 });
  a.ok(await a.next("receive"), { messages: [1, 2].map((seq) => ({ queue: "q", seq, attempt: 1, receipt: "r", published: "2026-11-23T00:00:00Z", body: 1 })) });
  const [m, n] = await got;
  const ack = async (of: Message): Promise<void> => {
    const acked = of.ack();
    a.ok(await a.next("ack"), { settled: 1 });
    await acked;
  };
  const refused = c.queue("q").publish(1);
  a.refuse(await a.next("publish"), "shutting_down");
  a.say({ op: "closing", reason: "the server is shutting down" });
  await ack(m!); // its reply is behind what was said before
  const waits = c.queue("q").publish(2);
  await ack(n!);
  a.hangUp();
  for (const [i, p] of [refused, waits].entries()) {
    const line = await a.next("publish");
    assert.equal(line["body"], i + 1);
    a.ok(line, stored(i));
    await p;
  }
  assert.equal(c.link, 2);
});

test("a token is not sent where others could read it", async (t) => {
  const host = Object.values(networkInterfaces()).flat().find((i) => i && !i.internal && i.family === "IPv4")?.address;
  if (host === undefined) return t.skip("this machine has no address but its own");
  const f = await Fake.start(t, "0.0.0.0");
  await assert.rejects(client(t, f, { host, token: "gmq_x" }), code("unauthenticated"));
});

test("a real node that stands still is left for the others, and nothing that was confirmed is lost", async (t) => {
  const one = await Server.start(t);
  const manager = await client(t, one);
  for (let i = 0; i < 2; i++) {
    const { token } = await manager.request({ op: "cluster.token" });
    await Server.start(t, "", ["--join", token as string]);
    for (let members = 0; members < i + 2;) {
      const s = await manager.request({ op: "cluster.status" });
      members = (s["nodes"] as { state: string; client: string }[]).filter((n) => n.state === "member" && n.client).length; // where clients find it comes last
    }
  }
  await manager.close();
  const c = await client(t, one, { timeout: 15_000 });
  assert.equal(c.hello.nodes?.length, 3);
  const q = c.queue("orders");
  const got = new Set<number>();
  const total = 200;
  const reader = (async () => {
    for await (const m of q.messages({ credit: 10 })) {
      got.add(m.body as number);
      await m.ack().catch((e: GmqError) => assert.equal(e.code, "lease_lost"));
      if (got.size === total) break;
    }
  })();
  for (let i = 0; i < total; i++) {
    if (i === total / 2) one.signal("SIGSTOP");
    const p = await q.publish(i, { dedupId: String(i) });
    assert.equal(p.stored, "quorum");
  }
  await reader;
  assert.notEqual(c.hello.node, "n1");
  assert.equal((await c.info("orders")).counts.published, total, "a dedupId makes asking again safe");
});
