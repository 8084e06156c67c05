// What stands in lines: the types of docs/schema/gmq.schema.json that this client uses. Knows no connection.

/** A value that JSON can say. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** The closed list of error codes. */
export type Code =
  | "bad_json" | "bad_request" | "unknown_op" | "line_too_long" | "unauthenticated" | "forbidden" | "not_found" | "exists"
  | "too_many_queues" | "too_many_connections" | "message_too_large" | "queue_full" | "lease_lost" | "paused" | "not_stored"
  | "no_quorum" | "unknown_outcome" | "disk_full" | "overloaded" | "rate_limited" | "shutting_down" | "internal"
  | "closed" | "timeout"; // the last two are this client's own

/** What a confirm stands for. */
export type Stored = "memory" | "written" | "disk" | "mysql" | "memory_quorum" | "quorum";

/** A length of time: milliseconds, or as the protocol writes it, such as "1h30m". */
export type Duration = number | string;

/** Settings of a queue. What is left out is the server's default, or stays as it is. */
export interface Settings {
  storage?: "memory" | "file" | "mysql";
  max_messages?: number;
  max_bytes?: number;
  overflow?: "reject" | "drop_oldest" | "dead_letter";
  lease?: Duration;
  max_deliveries?: number;
  retry?: { min?: Duration; max?: Duration; factor?: number; jitter?: number };
  ttl?: Duration;
  dedup_window?: Duration;
  dead_letter_expired?: boolean;
}

/** How many messages of a queue are in which state; published is the sum of all the others. */
export interface Counts {
  published: number; ready: number; delayed: number; leased: number; acked: number; expired: number;
  dead: number; dropped: number; cancelled: number; purged: number; redriven: number;
}

export interface QueueInfo {
  queue: string; settings: Required<Settings>; counts: Counts; oldest_age: string; bytes: number;
  consumers: number; paused: boolean; bindings?: string[];
}

export interface QueueSummary { queue: string; storage: string; ready: number; leased: number; delayed: number }

export interface Explanation {
  state: "ready" | "delayed" | "leased" | "settled"; because: string; until?: string; attempts: number;
  lease?: { consumer: string; until?: string };
  history: { at: string; event: string; reason?: string; attempts: number }[];
}

/** The server's greeting. */
export interface Hello {
  server: string; version: string; node: string; protocol: number; max_message_bytes: number; storages: string[]; user?: string; token?: string;
  /** In a cluster: where clients reach the nodes, the one that answers first. */
  nodes?: string[];
}

/** A delivery as it stands in a line. */
export interface Delivery {
  queue: string; seq: number; attempt: number; receipt: string; published: string; redelivered?: true;
  headers?: Record<string, string>; key?: string; topic?: string; dropped?: number; encoding?: "base64"; body: Json;
}

/** A request: its operation and the fields of it. undefined leaves a field out. */
export interface Request { op: string; [field: string]: unknown }

/** A reply of success. */
export interface Reply { ok: true; [field: string]: unknown }

/** duration writes a length of time as the protocol does. */
export function duration(d: Duration): string {
  return typeof d === "string" ? d : `${d}ms`;
}

const units: Record<string, number> = { ns: 1e-6, us: 1e-3, "µs": 1e-3, "μs": 1e-3, ms: 1, s: 1e3, m: 6e4, h: 3.6e6 };

/** milliseconds reads a length of time. */
export function milliseconds(d: Duration): number {
  if (typeof d === "number") return d;
  let sum = 0;
  for (const [, n, unit] of d.matchAll(/([0-9.]+)(ns|us|µs|μs|ms|s|m|h)/g)) sum += Number(n) * units[unit!]!;
  return sum;
}

/** A failure: as the server tells it, or of the connection. Tell by code; message is for people. */
export class GmqError extends Error {
  readonly code: Code;
  /** The same request may succeed later though nobody changes it. */
  readonly retryable: boolean;
  /** Of lease_lost: the messages that somebody else has by now. */
  readonly seqs: number[];

  constructor(code: Code, message: string, retryable: boolean, seqs: number[] = []) {
    super(`${code}: ${message}`);
    this.name = "GmqError";
    this.code = code;
    this.retryable = retryable;
    this.seqs = seqs;
  }
}
