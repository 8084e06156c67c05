// The client against the real server.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import * as path from "node:path";
import { test, type TestContext } from "node:test";
import { connect, GmqError, Reject, RetryAfter, type Client, type Options } from "../src/index.ts";
import { binary, Server } from "./server.ts";

async function client(t: TestContext, s: Server, o: Options = {}): Promise<Client> {
  const c = await connect({ port: s.port, host: "127.0.0.1", backoff: [10, 100], ...o });
  t.after(() => c.close(100));
  return c;
}

const code = (want: string) => (e: unknown): boolean => e instanceof GmqError && e.code === want;

test("bodies arrive as they were sent", async (t) => {
  const c = await client(t, await Server.start(t));
  const q = c.queue("bodies");
  for (const body of [null, 12.5, "ü \u{1F600} \n", [1, [2]], { a: { b: "c" } }]) {
    await q.publish(body);
    const [m] = await q.receive();
    assert.deepEqual(m!.body, body);
    await m!.ack();
  }
  const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i % 256);
  await q.publish(bytes.subarray(1));
  const [m] = await q.receive({ wait: "10s" });
  assert.equal(Buffer.compare(m!.bytes(), bytes.subarray(1)), 0);
});

test("what a message may want", async (t) => {
  const c = await client(t, await Server.start(t));
  const q = c.queue("wants");
  const first = await q.publish(1, { headers: { trace: "7f3a" }, key: "k", dedupId: "once", ttl: "1h", priority: 9, stored: "disk" });
  assert.deepEqual(first, { seq: 1, stored: "disk", duplicate: false });
  assert.deepEqual(await q.publish(1, { dedupId: "once" }), { seq: 1, stored: "disk", duplicate: true });
  await q.publish(2, { delay: 3_600_000 });
  await q.publish(3, { at: new Date(Date.now() + 3_600_000) });
  assert.deepEqual(await q.publishBatch([{ body: 4 }, { body: 5, key: "k" }]), [4, 5]);
  const [m] = await q.receive();
  assert.equal(m!.key, "k");
  assert.deepEqual(m!.headers, { trace: "7f3a" });
  assert.equal(m!.attempt, 1);
  const info = await c.info("wants");
  assert.equal(info.counts.delayed, 2);
  assert.equal((await c.explain("wants", 1)).state, "leased");
  assert.match((await c.explain("wants", 5)).because, /same key/);
});

test("a loop takes messages, and leaving it gives back what is not settled", async (t) => {
  const c = await client(t, await Server.start(t));
  const q = c.queue("loop");
  await q.publishBatch(Array.from({ length: 50 }, (_, i) => ({ body: i })));
  let n = 0;
  for await (const m of q.messages({ credit: 8 })) {
    assert.equal(m.body, n);
    if (++n === 20) break; // this one is not acked
    await m.ack();
  }
  const [again] = await q.receive({ wait: "10s" });
  assert.equal(again!.body, 19);
  assert.equal(again!.redelivered, true);
});

test("work acks, gives back and rejects", async (t) => {
  const c = await client(t, await Server.start(t));
  const q = c.queue("work");
  await c.createQueue("work", { retry: { min: "1ms", jitter: 0 }, lease: "1m" });
  for (const kind of ["good", "late", "bad", "flaky"]) await q.publish(kind);
  const stop = new AbortController();
  const seen: Record<string, number> = {};
  await q.work((m) => {
    const kind = m.body as string;
    seen[kind] = (seen[kind] ?? 0) + 1;
    if (Object.keys(seen).length === 4 && seen["late"] === 2 && seen["flaky"] === 2) stop.abort();
    if (kind === "bad") throw new Reject("cannot be parsed");
    if (kind === "late" && m.attempt === 1) throw new RetryAfter(1, "later");
    if (kind === "flaky" && m.attempt === 1) throw new Error("no luck");
  }, { concurrency: 3, signal: stop.signal });
  assert.deepEqual(seen, { good: 1, late: 2, bad: 1, flaky: 2 });
  const [dead] = await c.queue("work.dlq").receive({ wait: "10s" });
  assert.equal(dead!.headers["gmq-dead-reason"], "nack: cannot be parsed");
  await dead!.nack({ delay: 0 });
  assert.equal(await c.queue("work.dlq").redrive(), 1);
  assert.equal((await q.receive({ wait: "10s" }))[0]!.body, "bad");
});

test("leases of running work are extended", async (t) => {
  const c = await client(t, await Server.start(t));
  const q = c.queue("slow");
  await q.publish(1);
  const stop = new AbortController();
  let runs = 0;
  await q.work(async (m) => {
    runs++;
    // Longer than the lease: somebody else would get it, if there was no extension.
    for (let i = 0; i < 8; i++) assert.deepEqual(await q.receive({ wait: "100ms" }), []);
    stop.abort();
    assert.equal(m.attempt, 1);
  }, { lease: "300ms", signal: stop.signal });
  assert.equal(runs, 1);
  assert.equal((await c.info("slow")).counts.acked, 1);
});

test("errors have the server's code", async (t) => {
  const c = await client(t, await Server.start(t));
  await c.createQueue("small", { max_messages: 1 });
  await c.queue("small").publish(1);
  await assert.rejects(c.queue("small").publish(2), (e: GmqError) => e.code === "queue_full" && e.retryable);
  await assert.rejects(c.createQueue("small", { max_messages: 2 }), code("exists"));
  await assert.rejects(c.info("nowhere"), code("not_found"));
  await assert.rejects(c.queue("no good").publish(1), code("bad_request"));
  await assert.rejects(async () => { for await (const _ of c.queue("nowhere").messages({ create: false })); }, code("not_found"));
  await c.updateQueue("small", { max_messages: 5, retry: { min: 10 } });
  assert.equal((await c.info("small")).settings.max_messages, 5);
  assert.equal(await c.queue("small").purge(), 1);
  await c.deleteQueue("small");
});

test("a deleted queue ends its subscriptions", async (t) => {
  const c = await client(t, await Server.start(t));
  const messages = c.queue("gone").messages();
  await c.queue("gone").publish(1);
  assert.equal((await messages.next()).value!.body, 1);
  const next = messages.next();
  await c.deleteQueue("gone");
  await assert.rejects(next, code("not_found"));
  assert.equal((await messages.next()).done, true);
});

test("topics", async (t) => {
  const c = await client(t, await Server.start(t));
  await c.createQueue("thumbs");
  await c.queue("thumbs").bind("files.*.added");
  const all = c.topic("files.>").messages();
  await c.ping(); // the subscription has been asked for before it
  assert.deepEqual(await c.topic("files.eu.added").publish("cat.png"), { queues: 2, stored: "disk", duplicate: false });
  const heard = (await all.next()).value!;
  assert.equal(heard.topic, "files.eu.added");
  await heard.ack();
  assert.equal((await c.queue("thumbs").receive())[0]!.topic, "files.eu.added");
  await c.queue("thumbs").unbind("files.*.added");
  await all.return();
  assert.equal((await c.topic("files.eu.added").publish("dog.png")).queues, 0);
  const names: string[] = [];
  for await (const q of c.queues("th")) names.push(q.queue);
  assert.deepEqual(names, ["thumbs"]);
});

test("a connection comes back, and nothing that was confirmed is lost", async (t) => {
  const s = await Server.start(t);
  const c = await client(t, s);
  const q = c.queue("orders");
  const got = new Set<number>();
  const enough = new AbortController();
  const total = 300;
  const reader = (async () => {
    for await (const m of q.messages({ credit: 10, signal: enough.signal })) {
      got.add(m.body as number);
      await m.ack().catch((e: GmqError) => assert.equal(e.code, "lease_lost"));
      if (got.size === total) break;
    }
  })();
  let published = 0;
  const writer = (async () => {
    for (; published < total; published++) await q.publish(published, { dedupId: String(published) });
  })();
  for (const at of [50, 150, 250]) {
    while (published < at) await new Promise((go) => setImmediate(go));
    await s.kill();
    await s.up();
  }
  await Promise.all([writer, reader]);
  const info = await c.info("orders");
  assert.equal(info.counts.published, total, "a dedupId makes asking again safe");
  assert.equal(c.link, 4);
});

test("without a dedupId the outcome of a lost publish is unknown", async (t) => {
  const s = await Server.start(t);
  const c = await client(t, s);
  const q = c.queue("q");
  await q.publish(1);
  await c.createQueue("wait");
  const waiting = c.queue("wait").receive({ wait: "1m" }); // is asked again
  const outcomes = Array.from({ length: 200 }, (_, i) => q.publish(i).then(() => "ok", (e: GmqError) => e.code));
  await s.kill();
  await s.up();
  for (const o of await Promise.all(outcomes)) assert.match(o, /^(ok|unknown_outcome)$/);
  await c.queue("wait").publish("here");
  assert.equal((await waiting)[0]!.body, "here");
});

test("requests wait for a connection no longer than they may", async (t) => {
  const s = await Server.start(t);
  const c = await client(t, s, { timeout: 50 });
  await s.kill();
  await assert.rejects(c.ping(), (e: GmqError) => e.code === "timeout" || e.code === "unknown_outcome");
});

test("few in flight are enough for many requests", async (t) => {
  const c = await client(t, await Server.start(t), { maxInFlight: 3 });
  const seqs = await Promise.all(Array.from({ length: 100 }, (_, i) => c.queue("q").publish(i).then((p) => p.seq)));
  assert.deepEqual(seqs, Array.from({ length: 100 }, (_, i) => i + 1));
});

test("a closed client says so", async (t) => {
  const c = await client(t, await Server.start(t));
  const messages = c.queue("q").messages();
  const next = messages.next();
  await c.close();
  await c.close();
  assert.equal((await next).done, true);
  await assert.rejects(c.ping(), code("closed"));
});

test("logins", async (t) => {
  const s = await Server.start(t, "auth: {required: true}\n");
  const password = readFileSync(path.join(s.dir, "data", "admin-password"), "utf8").trim();
  await assert.rejects(client(t, s, { user: "admin", password: "wrong" }), code("unauthenticated"));
  const admin = await client(t, s, { user: "admin", password });
  assert.equal(admin.hello.user, "admin");
  await admin.request({ op: "user.add", user: "ann", password: "correct horse ü", allow: ["publish:orders"] });
  const ann = await client(t, s, { user: "ann", password: "correct horse ü" });
  await ann.queue("orders").publish(1);
  await assert.rejects(ann.queue("orders").receive(), code("forbidden"));
  const { token } = await admin.request({ op: "token.add", name: "ci", allow: ["consume:orders"] });
  const ci = await client(t, s, { token: token as string });
  assert.equal((await ci.queue("orders").receive()).length, 1);
});

test("TLS", async (t) => {
  const dir = (await Server.start(t)).dir;
  execFileSync(binary(), ["dev-cert", "--dir", path.join(dir, "certs")]);
  const certs = path.join(dir, "certs");
  const s = await Server.start(t, `tls: {cert: ${certs}/server.pem, key: ${certs}/server-key.pem, required: true}\n`);
  const ca = readFileSync(path.join(certs, "ca.pem"));
  const c = await client(t, s, { tls: { ca } });
  assert.equal((await c.queue("q").publish(1)).seq, 1);
  await assert.rejects(client(t, s, { tls: true }), /certificate|authority|signed/i);
  await assert.rejects(client(t, s), code("bad_request"));
});
