// Messages as they come: an async iterator that outlives connections. Knows nothing of handlers.

import type { Client } from "./client.ts";
import { Message } from "./message.ts";
import { duration, GmqError, type Delivery, type Duration, type Request } from "./protocol.ts";

/** How messages are taken. */
export interface Consume {
  /** How many may be delivered and not settled; 1 where nothing is said, 64 of a topic. */
  credit?: number;
  lease?: Duration;
  /** "auto": settled on delivery, at most once. */
  ack?: "manual" | "auto";
  /** false: a queue that is not there is an error. */
  create?: boolean;
  /** Ends the subscription. */
  signal?: AbortSignal;
}

/** A Subscription gives messages until it is ended: by leaving the loop, by return, by its signal, by the server. */
export class Subscription implements AsyncIterableIterator<Message> {
  readonly #client: Client;
  readonly #request: Request;
  readonly #auto: boolean;
  readonly #ephemeral: boolean;
  #buffer: Message[] = [];
  #waiting: { resolve(r: IteratorResult<Message, undefined>): void; reject(e: Error): void }[] = [];
  #over = false;
  #why: Error | undefined;
  #number: number | undefined; // on the connection of now
  #again: NodeJS.Timeout | undefined; // until it is asked for once more over that
  #gone: Promise<unknown> = Promise.resolve(); // the server has heard of the end

  constructor(client: Client, request: Request, o: Consume) {
    this.#client = client;
    this.#auto = o.ack === "auto";
    this.#ephemeral = request["topic"] !== undefined;
    this.#request = { ...request, credit: o.credit ?? 1, ack: o.ack, create: o.create, lease: o.lease === undefined ? undefined : duration(o.lease) };
    if (o.signal?.aborted) this.end();
    else {
      o.signal?.addEventListener("abort", () => this.end(), { once: true });
      client.add(this);
    }
  }

  [Symbol.asyncIterator](): this { return this; }

  async next(): Promise<IteratorResult<Message, undefined>> {
    const m = this.#buffer.shift();
    if (m) return { done: false, value: m };
    if (this.#why) { const why = this.#why; this.#why = undefined; throw why; }
    if (this.#over) return { done: true, value: undefined };
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async return(): Promise<IteratorResult<Message, undefined>> {
    this.end();
    await this.#gone;
    return { done: true, value: undefined };
  }

  /** end gives back what has been delivered and not taken. */
  end(why?: Error): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#again);
    this.#why = why;
    this.#client.drop(this);
    this.#buffer = [];
    if (this.#number !== undefined) this.#unsubscribe(this.#number);
    for (const w of this.#waiting.splice(0)) {
      if (this.#why) { w.reject(this.#why); this.#why = undefined; } else w.resolve({ done: true, value: undefined });
    }
  }

  /** ask subscribes, over the connection of now. It is for the client. */
  ask(): void {
    clearTimeout(this.#again);
    const link = this.#client.link;
    this.#client.subscribe(this.#request, this).catch((e: unknown) => {
      if (this.#over || link !== this.#client.link) return; // that connection is gone; the next one has asked again, or will
      if (e instanceof GmqError && e.code === "lease_lost") return;
      if (e instanceof GmqError && e.retryable) this.#again = setTimeout(() => this.ask(), 1_000).unref();
      else this.end(e as Error);
    });
  }

  /** numbered says what number the server has given. It is for the client. */
  numbered(n: number): void {
    if (this.#over) { this.#client.drop(this); this.#unsubscribe(n); return; }
    this.#number = n;
  }

  #unsubscribe(n: number): void {
    // What is not settled returns at once. If this gets lost, so does the subscription with its connection.
    this.#gone = this.#client.request({ op: "unsubscribe", sub: n }, { link: this.#client.link }).catch(() => {});
  }

  /** take takes a delivery. It is for the client. */
  take(d: Delivery): void {
    if (this.#over) return;
    const m = new Message(this.#client, d, this.#ephemeral ? this.#client.link : undefined, this.#auto);
    const w = this.#waiting.shift();
    if (w) w.resolve({ done: false, value: m }); else this.#buffer.push(m);
  }

  /** lost forgets what came over the connection that is gone, for it comes again. It is for the client. */
  lost(): void {
    this.#number = undefined;
    clearTimeout(this.#again);
    if (!this.#auto && !this.#ephemeral) this.#buffer = [];
  }
}
