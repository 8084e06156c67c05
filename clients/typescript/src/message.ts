// A message that has been delivered. Knows how it is settled, not how it came.

import type { Client } from "./client.ts";
import { duration, GmqError, type Delivery, type Duration, type Json } from "./protocol.ts";

/** How a message is given back. */
export interface NackOptions {
  /** When it comes again; the queue's backoff where nothing is said. */
  delay?: Duration;
  reason?: string;
  /** Into the dead-letter queue. */
  dead?: boolean;
  /** false: as if it had not been delivered. */
  count?: boolean;
}

/** A Message is a delivery. Unless it is acked it comes again. */
export class Message {
  readonly queue: string;
  readonly seq: number;
  /** Which delivery this is, from 1 on. */
  readonly attempt: number;
  readonly redelivered: boolean;
  readonly published: Date;
  readonly headers: Readonly<Record<string, string>>;
  readonly key: string | undefined;
  readonly topic: string | undefined;
  /** How many messages before it a subscription to a topic has lost, being too slow. */
  readonly dropped: number;
  /** The body as JSON; of a message of bytes, base64. */
  readonly body: Json;
  readonly #client: Client;
  readonly #receipt: string;
  readonly #base64: boolean;
  readonly #link: number | undefined; // of an ephemeral queue: the connection with which it ends
  readonly #auto: boolean;

  constructor(client: Client, d: Delivery, link: number | undefined, auto: boolean) {
    this.#client = client;
    this.#receipt = d.receipt;
    this.#base64 = d.encoding === "base64";
    this.#link = link;
    this.#auto = auto;
    this.queue = d.queue;
    this.seq = d.seq;
    this.attempt = d.attempt;
    this.redelivered = d.redelivered === true;
    this.published = new Date(d.published);
    this.headers = d.headers ?? {};
    this.key = d.key;
    this.topic = d.topic;
    this.dropped = d.dropped ?? 0;
    this.body = d.body;
  }

  /** The bytes that were published; of JSON, its text. */
  bytes(): Uint8Array {
    return this.#base64 ? Buffer.from(this.body as string, "base64") : Buffer.from(JSON.stringify(this.body));
  }

  /** The message is done with, for good: resolves when that is as durable as its publish. */
  async ack(): Promise<void> { await this.#settle({ op: "ack" }); }

  /** Gives the message back. */
  async nack(o: NackOptions = {}): Promise<void> {
    await this.#settle({ op: "nack", ...o, delay: o.delay === undefined ? undefined : duration(o.delay) });
  }

  /** Lets the lease end that long from now. */
  async extend(lease: Duration): Promise<void> { await this.#settle({ op: "extend", lease: duration(lease) }); }

  async #settle(how: { op: string; [field: string]: unknown }): Promise<void> {
    if (this.#auto) return;
    const ask = { again: how.op !== "extend", ...(this.#link === undefined ? {} : { link: this.#link }) };
    try {
      await this.#client.request({ ...how, queue: this.queue, seq: this.seq, receipt: this.#receipt }, ask);
    } catch (e) {
      // An ephemeral queue ends with its connection, and then there is nothing left to settle.
      const over = this.#link !== undefined && e instanceof GmqError && (e.code === "not_found" || e.code === "lease_lost");
      if (!over) throw e;
    }
  }
}
