// The client: requests that wait for their replies, and a connection that comes back, to the same server or to another node of its
// cluster. Knows nothing of what single requests mean.

import { error, Link, type Frame, type LinkOptions } from "./link.ts";
import { attemptMost, beat, moveEvery, moveMost, pause, Roster, type NodeOptions } from "./nodes.ts";
import { GmqError, type Explanation, type Hello, type QueueInfo, type QueueSummary, type Reply, type Request, type Settings, duration } from "./protocol.ts";
import { Queue, Topic } from "./queue.ts";
import type { Subscription } from "./subscription.ts";

export interface Options extends LinkOptions, NodeOptions {
  /**
   * How long the server may be silent before it is asked whether it is there, in milliseconds; 20000, 0 is never. A node of a cluster of which
   * something is waited for is asked after 0.5 s, and left for another one after 1.5 s.
   */
  heartbeat?: number;
  /** The wait between attempts to connect, in milliseconds; it doubles from the first to the second. */
  backoff?: [least: number, most: number];
  /** How long a request waits for a connection and its reply, in milliseconds; 30000. */
  timeout?: number;
  /** How many requests may wait for their replies; further ones wait for room. 1024. */
  maxInFlight?: number;
  /** Is told of lost and new connections. */
  log?: (text: string) => void;
}

/** How a request is to be treated when the connection is lost before its reply. */
export interface Ask {
  /** Ask again over the next connection. Only for what may be done twice. */
  again?: boolean;
  /** How long to wait in milliseconds, in place of the client's timeout. 0 is for ever. */
  timeout?: number;
  /** The connection over which alone the request makes sense. */
  link?: number;
  /** The server may keep back the reply: it waits for messages. */
  waits?: boolean;
}

interface Call {
  id: number; line: string; again: boolean; link: number | undefined; waits: boolean;
  sent: boolean; // over the connection of now, and not answered
  ends: boolean; // work, so it goes to a server that is closing, too
  refusals: number;
  refused?: GmqError; // the last time, or unknown_outcome: once it may have been done, it stays so
  resolve(r: Reply): void; reject(e: Error): void; timer?: NodeJS.Timeout | undefined;
}

/** connect connects to a server, or to a node of a cluster. The first connection has to succeed; lost ones come back by themselves. */
export async function connect(options: Options = {}): Promise<Client> {
  const c = new Client(options);
  await c.open();
  return c;
}

/** A Client is a connection that comes back. Make one with connect. */
export class Client {
  readonly #options: Options;
  readonly #roster: Roster;
  #link: Link | undefined;
  #hello: Hello | undefined;
  #number = 0; // of the connection
  #next = 1;
  #calls = new Map<number, Call>(); // without a reply, in the order in which they came
  #room: (() => void)[] = [];
  #subscriptions = new Set<Subscription>();
  #byNumber = new Map<number, Subscription>();
  #closed = false;
  #retry: NodeJS.Timeout | undefined;
  #leaving = false; // new work waits for the next connection: this one is about to end
  #moved = -Infinity; // when a node was left as it found no leaders
  #rest: NodeJS.Timeout | undefined; // until what was refused is asked again
  #leaveLate: NodeJS.Timeout | undefined;

  constructor(options: Options) { this.#options = options; this.#roster = new Roster(options); }

  /** What the server said of itself, on the connection of now or the last one. */
  get hello(): Hello { return this.#hello!; }

  /** The number of the connection: it grows with each new one. */
  get link(): number { return this.#number; }

  /** The queue of that name. Asks nobody. */
  queue(name: string): Queue { return new Queue(this, name); }

  /** The topic, or the pattern of topics, of that name. Asks nobody. */
  topic(name: string): Topic { return new Topic(this, name); }

  async ping(): Promise<void> { await this.request({ op: "ping" }, { again: true }); }

  /** Creates a queue. Doing it again with the same settings is fine; with others it is the error exists. */
  async createQueue(name: string, s: Settings = {}): Promise<void> {
    await this.request({ op: "queue.create", queue: name, ...written(s) }, { again: true });
  }

  /** Changes those settings that are given. */
  async updateQueue(name: string, s: Settings): Promise<void> {
    await this.request({ op: "queue.update", queue: name, ...written(s) }, { again: true });
  }

  async deleteQueue(name: string): Promise<void> { await this.request({ op: "queue.delete", queue: name }); }

  /** All queues whose names begin so, in order. */
  async *queues(prefix = ""): AsyncGenerator<QueueSummary, void, void> {
    for (let after = ""; ;) {
      const r = await this.request({ op: "queue.list", prefix, after: after || undefined, limit: 1000 }, { again: true });
      const page = r["queues"] as QueueSummary[];
      if (page.length === 0) return;
      yield* page;
      after = page[page.length - 1]!.queue;
    }
  }

  async info(queue: string): Promise<QueueInfo> {
    return await this.request({ op: "queue.info", queue }, { again: true }) as unknown as QueueInfo;
  }

  async explain(queue: string, seq: number): Promise<Explanation> {
    return await this.request({ op: "queue.explain", queue, seq }, { again: true }) as unknown as Explanation;
  }

  /** request sends any request of the protocol and gives its reply; a failure is thrown as GmqError. */
  async request(r: Request, ask: Ask = {}): Promise<Reply> {
    while (this.#calls.size >= (this.#options.maxInFlight ?? 1024) && !this.#closed) {
      await new Promise<void>((go) => this.#room.push(go));
    }
    if (this.#closed) throw new GmqError("closed", "the client is closed", false);
    if (ask.link !== undefined && ask.link !== this.#number) throw gone();
    return new Promise<Reply>((resolve, reject) => {
      const id = this.#next++;
      const call: Call = {
        id, line: JSON.stringify({ ...r, id }) + "\n", again: ask.again ?? false, link: ask.link, waits: ask.waits ?? false,
        sent: false, ends: r.op === "ack" || r.op === "nack" || r.op === "extend", refusals: 0, resolve, reject,
      };
      const timeout = ask.timeout ?? this.#options.timeout ?? 30_000;
      if (timeout > 0) {
        call.timer = setTimeout(() => this.#settle(call, call.sent
          ? new GmqError("unknown_outcome", "no reply came in time", true)
          : call.refused ?? new GmqError("timeout", "there was no connection in time", true)), timeout);
      }
      this.#calls.set(id, call);
      if (this.#link && (!this.#leaving || call.ends || call.link !== undefined)) this.#send(call);
    });
  }

  /** close ends the client, when the requests that are on their way have their replies, but after that time in milliseconds at the latest. */
  async close(patience = 5_000): Promise<void> {
    if (this.#closed) return;
    for (const s of this.#subscriptions) s.end();
    const deadline = new Promise<void>((r) => setTimeout(r, patience).unref());
    while (this.#calls.size > 0 && this.#link && await Promise.race([deadline.then(() => false), new Promise<boolean>((r) => this.#room.push(() => r(true)))]));
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#stay();
    this.#link?.close();
    this.#link = undefined;
    for (const call of [...this.#calls.values()]) this.#settle(call, new GmqError(call.sent ? "unknown_outcome" : "closed", "the client was closed", true));
    this.#room.splice(0).forEach((go) => go());
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.close(); }

  /** open connects to the first node that answers. It is for connect. */
  async open(): Promise<void> {
    const all = this.#roster.next(), patience = this.#options.connectTimeout ?? 10_000;
    const errors: Error[] = [];
    for (const at of all) {
      this.#roster.tried(at);
      try {
        this.#attach(await Link.open(this.#options, at, all.length > 1 ? Math.min(patience, attemptMost) : patience, {
          frame: (f) => this.#frame(f),
          lost: (why) => this.#lost(why),
        }));
        return;
      } catch (e) {
        errors.push(e as Error);
      }
      if (this.#closed) break;
    }
    // Where one says who is not let in, or what else nobody but the caller can change, that is what he has to know.
    throw errors.find((e) => all.length === 1 || e instanceof GmqError && !e.retryable) ?? new AggregateError(errors, errors.map((e) => e.message).join("; "));
  }

  #attach(link: Link): void {
    if (this.#closed) return link.close();
    this.#link = link;
    this.#hello = link.hello;
    this.#roster.hear(link.hello.nodes);
    this.#number++;
    link.watch(beat(this.#options.heartbeat ?? 20_000, this.#roster.others,
      () => [...this.#calls.values()].some((c) => c.sent && !c.waits), () => this.#calls.size > 0 || this.#subscriptions.size > 0));
    this.#sendWaiting();
    for (const s of this.#subscriptions) s.ask();
  }

  /** subscribed takes a subscription in, which is asked for now and over each new connection. */
  add(s: Subscription): void {
    this.#subscriptions.add(s);
    if (this.#link) s.ask();
  }

  /** drop forgets a subscription. */
  drop(s: Subscription): void {
    this.#subscriptions.delete(s);
    for (const [n, is] of this.#byNumber) if (is === s) this.#byNumber.delete(n);
  }

  /** numbered says under which number the server's deliveries for a subscription come. */
  numbered(n: number, s: Subscription): void { this.#byNumber.set(n, s); s.numbered(n); }

  #send(call: Call): void {
    call.sent = true;
    this.#link!.send(call.line);
  }

  /** #sendWaiting sends what has not been sent, or was refused, in the order in which it came. */
  #sendWaiting(): void {
    for (const call of this.#calls.values()) if (!call.sent) this.#send(call);
  }

  #settle(call: Call, how: Reply | Error): void {
    clearTimeout(call.timer);
    this.#calls.delete(call.id);
    if (how instanceof Error) call.reject(how); else call.resolve(how);
    this.#room.splice(0).forEach((go) => go());
  }

  #frame(f: Frame): void {
    if (f.ok !== undefined) {
      const call = f.id === undefined ? undefined : this.#calls.get(f.id);
      if (call) {
        // The deliveries of a subscription may stand right behind this reply: its number has to be known then.
        if (f.ok && typeof f["sub"] === "number") this.#expect.get(call.id)?.(f["sub"]);
        if (f.ok) this.#settle(call, f as Reply); else this.#refused(call, error(f));
        if (this.#leaving) this.#leave();
      }
      return;
    }
    const s = this.#byNumber.get(f["sub"] as number);
    if (f.op === "message") s?.take(f as never);
    else if (f.op === "closing") this.#move(false);
    else if (f.op === "unsubscribed" && s) { this.drop(s); s.end(new GmqError("not_found", String(f["reason"]), false)); }
  }

  #expect = new Map<number, (sub: number) => void>();

  /** subscribe sends the request for a subscription; numbered is called before the first delivery is looked at. */
  async subscribe(r: Request, s: Subscription): Promise<void> {
    if (!this.#link) throw gone();
    const id = this.#next;
    this.#expect.set(id, (n) => this.numbered(n, s));
    try {
      await new Promise<Reply>((resolve, reject) => {
        const call: Call = {
          id: this.#next++, line: JSON.stringify({ ...r, id }) + "\n", again: false, link: this.#number, waits: false, sent: false, ends: false, refusals: 0, resolve, reject,
        };
        this.#calls.set(id, call);
        this.#send(call);
      });
    } finally {
      this.#expect.delete(id);
    }
  }

  /** #refused settles a call that has failed, or keeps it: what was certainly not done, or may be done twice, is asked again. */
  #refused(call: Call, e: GmqError): void {
    if (e.code === "no_quorum") this.#move(true);
    const undone = e.code === "no_quorum" || e.code === "shutting_down";
    if (call.link !== undefined || !(undone || (e.code === "unknown_outcome" && call.again))) return this.#settle(call, e);
    call.sent = false;
    if (call.refused?.code !== "unknown_outcome") call.refused = e;
    call.refusals++;
    if (e.code === "shutting_down") return this.#move(false); // over the next connection
    this.#rest ??= setTimeout(() => {
      this.#rest = undefined;
      if (this.#link && !this.#leaving) this.#sendWaiting();
    }, pause(this.#options.backoff?.[0] ?? 50, call.refusals));
  }

  /**
   * #move leaves a node for another one: as it is closing, or as it finds nobody who leads a queue. Where it is cut off from the others it
   * will not find one, and they have one; but maybe nobody has, so that is done now and then only.
   */
  #move(leaderless: boolean): void {
    if (this.#leaving || !this.#link) return;
    if (leaderless) {
      if (!this.#roster.others || performance.now() - this.#moved < moveEvery) return;
      this.#moved = performance.now();
    }
    this.#leaving = true;
    if (!this.#roster.others) return; // the server will end the connection
    const link = this.#link;
    this.#leaveLate = setTimeout(() => { if (this.#link === link) link.drop(left()); }, moveMost);
    setImmediate(() => { if (this.#link === link) this.#leave(); }); // behind what else has just come
  }

  /** #leave ends the connection to a node that is left, when all is answered that cannot be asked again. */
  #leave(): void {
    if (!this.#roster.others) return;
    for (const call of this.#calls.values()) if (call.sent && !call.again && call.link === undefined) return;
    this.#link?.drop(left());
  }

  /** #stay ends what #move and #refused have begun. */
  #stay(): void {
    this.#leaving = false;
    clearTimeout(this.#rest);
    clearTimeout(this.#leaveLate);
    this.#rest = undefined;
  }

  #lost(why: Error): void {
    this.#link = undefined;
    this.#stay();
    this.#byNumber.clear();
    this.#options.log?.(`connection lost: ${why.message}`);
    for (const call of [...this.#calls.values()]) {
      if (call.link !== undefined) this.#settle(call, gone());
      else if (call.sent) {
        const unknown = new GmqError("unknown_outcome", `no reply came: ${why.message}`, true);
        if (!call.again) { this.#settle(call, unknown); continue; }
        call.sent = false;
        call.refused = unknown;
      }
    }
    for (const s of this.#subscriptions) s.lost();
    this.#again(this.#options.backoff?.[0] ?? 50);
  }

  #again(wait: number): void {
    if (this.#closed) return;
    this.#retry = setTimeout(() => {
      this.open().then(() => this.#options.log?.("connected again"), (e: Error) => {
        this.#options.log?.(`no connection: ${e.message}`);
        this.#again(Math.min(2 * wait, this.#options.backoff?.[1] ?? 5_000));
      });
    }, wait * (0.5 + Math.random() / 2));
  }
}

function left(): GmqError { return new GmqError("closed", "another node is asked", true); }

function gone(): GmqError { return new GmqError("lease_lost", "the connection over which this made sense is gone", false); }

/** written is what a request has of settings. */
function written(s: Settings): Record<string, unknown> {
  const out: Record<string, unknown> = { ...s };
  for (const name of ["lease", "ttl", "dedup_window"] as const) if (s[name] !== undefined) out[name] = duration(s[name]);
  if (s.retry) {
    const { min, max, ...rest } = s.retry;
    out["retry"] = { ...rest, ...(min === undefined ? {} : { min: duration(min) }), ...(max === undefined ? {} : { max: duration(max) }) };
  }
  return out;
}
