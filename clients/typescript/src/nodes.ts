// Where the nodes of a cluster are, and which is to be tried next. Knows no connection.

import type { Beat } from "./link.ts";

/** Which servers a client may go to. */
export interface NodeOptions {
  /** The server; localhost. */
  host?: string;
  /** Its port; 4567. */
  port?: number;
  /** Further nodes of the same cluster, as host or host:port: one after the other is tried until one answers. */
  nodes?: string[];
  /** Goes to these only, and not to the other nodes that the cluster tells of. */
  onlyGiven?: boolean;
}

/** An address to connect to. */
export interface Address { host: string; port: number }

/** address reads host, host:port or [host]:port. */
export function address(text: string, port: number): Address {
  const is = /^(?:\[(.+)\]|([^:]*))(?::(\d+))?$/.exec(text);
  if (!is) return { host: text, port }; // an IPv6 address without a port
  return { host: is[1] ?? is[2]!, port: is[3] === undefined ? port : Number(is[3]) };
}

const text = (a: Address): string => (a.host.includes(":") ? `[${a.host}]` : a.host) + `:${a.port}`;

/** A Roster is the nodes that are known. */
export class Roster {
  readonly #given: string[];
  readonly #onlyGiven: boolean;
  #told: string[] = [];
  #last: string | undefined; // that was tried

  constructor(o: NodeOptions) {
    const port = o.port ?? 4567;
    const first = o.host === undefined && o.nodes !== undefined && o.nodes.length > 0 ? [] : [text({ host: o.host ?? "localhost", port })];
    this.#given = [...new Set([...first, ...(o.nodes ?? []).map((n) => text(address(n, port)))])];
    this.#onlyGiven = o.onlyGiven ?? false;
  }

  /** hear takes over what a node's greeting says of all nodes. */
  hear(nodes: string[] | undefined): void { this.#told = nodes ?? []; }

  /** others tells whether there is another node to go to. */
  get others(): boolean { return this.#given.length > 1 || (!this.#onlyGiven && this.#told.length > 1); }

  /** next gives all addresses, the one behind the latest first: what was lost is the least likely to be there. */
  next(): Address[] {
    const all = [...new Set([...this.#given, ...(this.#onlyGiven ? [] : this.#told)])];
    const at = this.#last === undefined ? 0 : all.indexOf(this.#last) + 1;
    return [...all.slice(at), ...all.slice(0, at)].map((a) => address(a, 0));
  }

  /** tried notes which address was tried last. */
  tried(a: Address): void { this.#last = text(a); }
}

/** attemptMost bounds an attempt to connect where there are other addresses to try; milliseconds, as all that follows. */
export const attemptMost = 2_000;
/** moveEvery is how often a node is left for another one as it finds no leaders, at most: maybe there are none. */
export const moveEvery = 2_000;
/** moveMost is how long what cannot be asked again may hold up leaving a node. */
export const moveMost = 3_000;

// How often it is looked whether a node of a cluster has said something; how long it may be silent while an answer is due, and while messages may
// come; and how long when it was asked. A connection that breaks is noticed at once: this is for nodes that stand still, and for networks that
// swallow everything.
const glance = 250, hurry = 500, calm = 5_000, grace = 1_000;

/** beat is how a client finds out that a server is silent: soon where there are others. due tells whether an answer is, open whether messages may come. */
export function beat(heartbeat: number, others: boolean, due: () => boolean, open: () => boolean): Beat {
  if (!others || heartbeat <= hurry) return { every: heartbeat, answer: heartbeat, patience: () => heartbeat };
  return { every: glance, answer: grace, patience: () => due() ? hurry : open() ? Math.min(calm, heartbeat) : heartbeat };
}

/** pause is how long to wait before what was refused so often, as nobody led its queue, is asked again. */
export function pause(least: number, refusals: number): number {
  const most = Math.min(least * 2 ** Math.min(refusals, 10), Math.max(1_000, least));
  return most * (0.5 + Math.random() / 2);
}
