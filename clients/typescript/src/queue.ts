// Queues and topics: what can be asked of them. Knows no connection.

import type { Client } from "./client.ts";
import { Message } from "./message.ts";
import { duration, GmqError, milliseconds, type Delivery, type Duration, type Reply, type Stored } from "./protocol.ts";
import { Subscription, type Consume } from "./subscription.ts";

/** What a message may want besides its body. */
export interface PublishOptions {
  headers?: Record<string, string>;
  /** Messages of one key are delivered one at a time, in order. */
  key?: string;
  /** 0 to 9, the highest first; 4 where nothing is said. */
  priority?: number;
  delay?: Duration;
  at?: Date;
  ttl?: Duration;
  /** Within the queue's window a message with the same id is not stored again. Makes it safe to ask again, which the client then does. */
  dedupId?: string;
  /** The least that will do; a queue that gives less refuses with not_stored. */
  stored?: Stored;
  /** Publish again where the connection is lost before the confirm. Without a dedupId the message may then be there twice. */
  retry?: boolean;
}

/** The confirm of a publish. */
export interface Published {
  seq: number;
  stored: Stored;
  /** It was there already, under this seq. */
  duplicate: boolean;
}

/** A message of a batch. */
export interface BatchMessage extends Omit<PublishOptions, "retry"> { body: unknown }

/** fields are those of a message. Bytes go as base64, everything else as JSON. */
function fields(body: unknown, o: PublishOptions): Record<string, unknown> {
  const bytes = body instanceof Uint8Array;
  return {
    body: bytes ? Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("base64") : body === undefined ? null : body,
    encoding: bytes ? "base64" : undefined,
    headers: o.headers, key: o.key, priority: o.priority, at: o.at?.toISOString(), dedup_id: o.dedupId, stored: o.stored,
    delay: o.delay === undefined ? undefined : duration(o.delay), ttl: o.ttl === undefined ? undefined : duration(o.ttl),
  };
}

/** A Queue is a queue of the server, by name. */
export class Queue {
  readonly name: string;
  readonly #client: Client;

  constructor(client: Client, name: string) { this.#client = client; this.name = name; }

  /** Publishes a message, and gives the server's confirm that it is stored. */
  async publish(body: unknown, o: PublishOptions = {}): Promise<Published> {
    const r = await this.#client.request({ op: "publish", queue: this.name, ...fields(body, o) }, { again: o.retry ?? o.dedupId !== undefined });
    return { seq: r["seq"] as number, stored: r["stored"] as Stored, duplicate: r["duplicate"] === true };
  }

  /** Publishes messages, all or none, and gives their seqs. They are asked again only if each has a dedupId. */
  async publishBatch(messages: BatchMessage[]): Promise<number[]> {
    const r = await this.#client.request(
      { op: "publish", queue: this.name, messages: messages.map((m) => fields(m.body, m)) },
      { again: messages.every((m) => m.dedupId !== undefined) },
    );
    return r["seqs"] as number[];
  }

  /** Takes up to max messages, and waits for the first one for at most wait. None is an empty array. */
  async receive(o: { max?: number; wait?: Duration; lease?: Duration; ack?: "manual" | "auto" } = {}): Promise<Message[]> {
    const wait = milliseconds(o.wait ?? 0);
    const r = await this.#client.request({
      op: "receive", queue: this.name, max: o.max ?? 1, wait: duration(o.wait ?? 0), ack: o.ack,
      lease: o.lease === undefined ? undefined : duration(o.lease),
    }, { again: o.ack !== "auto", timeout: wait + 30_000, waits: wait > 0 });
    return (r["messages"] as Delivery[]).map((d) => new Message(this.#client, d, undefined, o.ack === "auto"));
  }

  /** Gives messages as they come, until the loop is left; what is not settled then comes again. */
  messages(o: Consume = {}): Subscription {
    return new Subscription(this.#client, { op: "subscribe", queue: this.name }, o);
  }

  /**
   * Calls handler for each message, as many at a time as concurrency says, until signal aborts. The message is acked when handler
   * has returned, and given back when it throws; a thrown Reject sends it to the dead-letter queue. Leases are extended meanwhile.
   */
  async work(handler: (m: Message) => unknown, o: Consume & { concurrency?: number } = {}): Promise<void> {
    await work(this.messages({ ...o, lease: o.lease ?? 30_000, credit: Math.max(o.credit ?? 1, o.concurrency ?? 1) }), handler, o.concurrency ?? 1, milliseconds(o.lease ?? 30_000));
  }

  /** Lets the queue have a copy of what is published to topics that match the pattern. */
  async bind(pattern: string): Promise<void> { await this.#client.request({ op: "queue.bind", queue: this.name, topic: pattern }, { again: true }); }

  async unbind(pattern: string): Promise<void> { await this.#client.request({ op: "queue.unbind", queue: this.name, topic: pattern }); }

  /** Deletes all messages, or those in a state, and tells how many. */
  async purge(state?: "ready" | "delayed" | "leased"): Promise<number> {
    return (await this.#client.request({ op: "queue.purge", queue: this.name, state }))["purged"] as number;
  }

  /**
   * Moves messages out of this dead-letter queue, each back to where it died, or all into the queue to: as many as there are now, so that what dies again
   * meanwhile is not moved for ever. Tells how many.
   */
  async redrive(to?: string): Promise<number> {
    const { ready, delayed } = (await this.#client.info(this.name)).counts;
    const all = Math.max(ready + delayed, 1); // the server says what is wrong with the queue, if anything is
    for (let sum = 0; ;) {
      const moved = (await this.#client.request({ op: "queue.redrive", queue: this.name, to, max: Math.min(all - sum, 100_000) }))["moved"] as number;
      sum += moved;
      if (moved === 0 || sum >= all) return sum;
    }
  }
}

/** A Topic is what messages are published to that any number of queues may want. */
export class Topic {
  readonly name: string;
  readonly #client: Client;

  constructor(client: Client, name: string) { this.#client = client; this.name = name; }

  /** Publishes to the topic, and tells how many queues took the message: all that are bound, or none has it. */
  async publish(body: unknown, o: PublishOptions = {}): Promise<{ queues: number; stored?: Stored; duplicate: boolean }> {
    const r: Reply = await this.#client.request({ op: "publish", topic: this.name, ...fields(body, o) }, { again: o.retry ?? o.dedupId !== undefined });
    const stored = r["stored"] as Stored | undefined;
    return { queues: r["queues"] as number, duplicate: r["duplicate"] === true, ...(stored ? { stored } : {}) };
  }

  /** Gives what is published to topics that match, from now on. What is published while the connection is lost is missed. */
  messages(o: Consume = {}): Subscription {
    return new Subscription(this.#client, { op: "subscribe", topic: this.name }, { ...o, credit: o.credit ?? 64, lease: o.lease ?? "24h" });
  }
}

/** Reject is for a handler to throw: the message goes to the dead-letter queue. */
export class Reject extends Error {}

/** RetryAfter is for a handler to throw: the message comes again after that time. */
export class RetryAfter extends Error {
  readonly delay: Duration;
  constructor(delay: Duration, message: string) { super(message); this.delay = delay; }
}

async function work(messages: Subscription, handler: (m: Message) => unknown, concurrency: number, lease: number): Promise<void> {
  const one = async (m: Message): Promise<void> => {
    const timer = setInterval(() => void m.extend(lease).catch(() => {}), Math.max(lease / 2, 1));
    try {
      await handler(m);
      await m.ack();
    } catch (e) {
      const reason = String(e instanceof Error ? e.message : e).slice(0, 200);
      const how = e instanceof Reject ? { reason, dead: true } : e instanceof RetryAfter ? { reason, delay: e.delay } : { reason };
      await m.nack(how).catch((again: unknown) => {
        // Somebody else has it by now, or will get it when the lease is over: either way it is not lost.
        if (!(again instanceof GmqError)) throw again;
      });
    } finally {
      clearInterval(timer);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, async () => {
    for (let m = await messages.next(); !m.done; m = await messages.next()) await one(m.value);
  }));
}
