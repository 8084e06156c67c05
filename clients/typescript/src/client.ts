// The client: requests that wait for their replies, and a connection that comes back. Knows nothing of what
// single requests mean.

import { error, Link, type Frame, type LinkOptions } from "./link.ts";
import { GmqError, type Explanation, type Hello, type QueueInfo, type QueueSummary, type Reply, type Request, type Settings, duration } from "./protocol.ts";
import { Queue, Topic } from "./queue.ts";
import type { Subscription } from "./subscription.ts";

export interface Options extends LinkOptions {
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
}

interface Call { id: number; line: string; again: boolean; link: number | undefined; sent: boolean; resolve(r: Reply): void; reject(e: Error): void; timer?: NodeJS.Timeout | undefined }

/** connect connects to a server. The first connection has to succeed; lost ones come back by themselves. */
export async function connect(options: Options = {}): Promise<Client> {
  const c = new Client(options);
  await c.open();
  return c;
}

/** A Client is a connection that comes back. Make one with connect. */
export class Client {
  readonly #options: Options;
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

  constructor(options: Options) { this.#options = options; }

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
      const call: Call = { id, line: JSON.stringify({ ...r, id }) + "\n", again: ask.again ?? false, link: ask.link, sent: false, resolve, reject };
      const timeout = ask.timeout ?? this.#options.timeout ?? 30_000;
      if (timeout > 0) {
        call.timer = setTimeout(() => this.#settle(call, call.sent
          ? new GmqError("unknown_outcome", "no reply came in time", true)
          : new GmqError("timeout", "there was no connection in time", true)), timeout);
      }
      this.#calls.set(id, call);
      if (this.#link) this.#send(call);
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
    this.#link?.close();
    this.#link = undefined;
    for (const call of [...this.#calls.values()]) this.#settle(call, new GmqError(call.sent ? "unknown_outcome" : "closed", "the client was closed", true));
    this.#room.splice(0).forEach((go) => go());
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.close(); }

  /** open connects. It is for connect. */
  async open(): Promise<void> {
    const link = await Link.open(this.#options, {
      frame: (f) => this.#frame(f),
      lost: (why) => this.#lost(why),
    });
    if (this.#closed) return link.close();
    this.#link = link;
    this.#hello = link.hello;
    this.#number++;
    for (const call of this.#calls.values()) this.#send(call);
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
        this.#settle(call, f.ok ? f as Reply : error(f));
      }
      return;
    }
    const s = this.#byNumber.get(f["sub"] as number);
    if (f.op === "message") s?.take(f as never);
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
        const call: Call = { id: this.#next++, line: JSON.stringify({ ...r, id }) + "\n", again: false, link: this.#number, sent: false, resolve, reject };
        this.#calls.set(id, call);
        this.#send(call);
      });
    } finally {
      this.#expect.delete(id);
    }
  }

  #lost(why: Error): void {
    this.#link = undefined;
    this.#byNumber.clear();
    this.#options.log?.(`connection lost: ${why.message}`);
    for (const call of [...this.#calls.values()]) {
      if (call.link !== undefined) this.#settle(call, gone());
      else if (call.sent && !call.again) this.#settle(call, new GmqError("unknown_outcome", `no reply came: ${why.message}`, true));
      else call.sent = false;
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
