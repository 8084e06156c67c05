// One connection: lines in, lines out, and the login. Knows nothing of what requests mean or of reconnecting.

import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import * as net from "node:net";
import * as tls from "node:tls";
import { promisify } from "node:util";
import type { Address } from "./nodes.ts";
import { GmqError, type Code, type Hello, type Reply, type Request } from "./protocol.ts";

/** How the client connects, and who it says it is. */
export interface LinkOptions {
  /** Encrypts the connection: true, or what node:tls wants besides, such as { ca } or { cert, key }. */
  tls?: boolean | tls.ConnectionOptions;
  /** Login by name and password; the password is proved by SCRAM-SHA-256 and not sent. */
  user?: string;
  password?: string;
  /** Login by a token. It is sent, so the server takes it over TLS or from its own machine only. */
  token?: string;
  /** The name under which the server lists this client. */
  name?: string;
  /** How long one attempt to connect may take, in milliseconds; 10000, and 2000 at most where there are other nodes to try. */
  connectTimeout?: number;
}

/** How a link finds out that nobody is at its other end; in milliseconds. */
export interface Beat {
  /** How often it looks; 0 is never. */
  every: number;
  /** How long the server may take to answer when it was asked whether it is there. */
  answer: number;
  /** How long it may be silent now before it is asked. */
  patience(): number;
}

/** A line of the server, parsed. */
export type Frame = { id?: number; ok?: boolean; op?: string; error?: { code: Code; message: string; retryable: boolean; seqs?: number[] }; [field: string]: unknown };

/** Who is told what a link hears. */
export interface Listener {
  /** A push, or a reply to a request that Link.send has sent. */
  frame(f: Frame): void;
  /** The connection is gone; it is said once. */
  lost(why: Error): void;
}

/** error makes the error of a reply that tells a failure. */
export function error(f: Frame): GmqError {
  const e = f.error!;
  return new GmqError(e.code, e.message, e.retryable, e.seqs);
}

export class Link {
  readonly hello: Hello;
  #socket: net.Socket;
  #listener: Listener | undefined;
  #heard = true;
  #beat: NodeJS.Timeout | undefined;

  private constructor(socket: net.Socket, hello: Hello) {
    this.#socket = socket;
    this.hello = hello;
  }

  /** open connects to an address within so many milliseconds, and logs in. */
  static async open(o: LinkOptions, at: Address, within: number, listener: Listener): Promise<Link> {
    const socket = await dial(o, at, within);
    let take: (f: Frame) => void = () => {};
    let fail: (why: Error) => void = () => {};
    let over: Error | undefined;
    read(socket, (f) => take(f), (why) => { over ??= why; fail(why); });
    const ask = (r: Request): Promise<Reply> => new Promise((resolve, reject) => {
      if (over) return reject(over);
      take = (f) => { if (f.ok === undefined) reject(new GmqError("closed", String(f["reason"]), true)); else if (f.ok) resolve(f as Reply); else reject(error(f)); };
      fail = reject;
      socket.write(JSON.stringify(r) + "\n");
    });
    const timer = setTimeout(() => socket.destroy(new GmqError("timeout", "the server did not answer in time", true)), within);
    try {
      if (o.token !== undefined && !o.tls && !own(socket.remoteAddress)) {
        throw new GmqError("unauthenticated", "a token is not sent over an unencrypted connection to another machine; use tls", false);
      }
      const hello = await login(ask, o);
      const link = new Link(socket, hello as unknown as Hello);
      link.#listener = listener;
      take = (f) => { link.#heard = true; link.#listener?.frame(f); };
      fail = (why) => link.#lost(why);
      if (over) throw over;
      return link;
    } catch (e) {
      socket.destroy();
      throw e;
    } finally {
      clearTimeout(timer);
    }
  }

  /** send writes a line. It gives false where more than enough waits to be taken by the network. */
  send(line: string): boolean { return this.#socket.write(line); }

  /** close ends the connection; the listener is told nothing more. */
  close(): void {
    this.#listener = undefined;
    clearInterval(this.#beat);
    this.#socket.end();
    this.#socket.destroySoon();
  }

  /** drop gives the connection up; the listener is told why. */
  drop(why: Error): void { this.#socket.destroy(why); }

  #lost(why: Error): void {
    clearInterval(this.#beat);
    const listener = this.#listener;
    this.#listener = undefined;
    listener?.lost(why);
  }

  /** watch asks a silent server for a sign of life, and gives up one that stays silent. */
  watch(b: Beat): void {
    if (b.every <= 0 || !this.#listener) return;
    let silent = 0, asked: number | undefined; // how long it has been silent; and had been when it was asked
    this.#beat = setInterval(() => {
      if (this.#heard) { this.#heard = false; silent = 0; asked = undefined; return; }
      silent += b.every;
      if (asked !== undefined) {
        if (silent - asked >= b.answer) this.drop(new GmqError("timeout", "the server is silent", true));
      } else if (silent >= b.patience()) {
        asked = silent;
        this.#socket.write('{"op":"ping"}\n'); // its reply has no id, and nobody waits for it
      }
    }, b.every);
    this.#beat.unref();
  }
}

/** own tells whether nobody else can read what is sent to an address. */
function own(remote: string | undefined): boolean {
  return remote !== undefined && /^(::1$|(::ffff:)?127\.)/.test(remote);
}

function dial(o: LinkOptions, { host, port }: Address, within: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const encrypted = o.tls !== undefined && o.tls !== false;
    const socket = encrypted
      ? tls.connect({ minVersion: "TLSv1.3", ...(net.isIP(host) ? {} : { servername: host }), ...(typeof o.tls === "object" ? o.tls : {}), host, port })
      : net.connect({ host, port });
    const timer = setTimeout(() => socket.destroy(new GmqError("timeout", `no connection to ${host}:${port} in time`, true)), within);
    socket.setNoDelay(true);
    socket.once("error", reject);
    socket.once(encrypted ? "secureConnect" : "connect", () => { clearTimeout(timer); socket.off("error", reject); resolve(socket); });
    socket.once("close", () => clearTimeout(timer));
  });
}

/** read cuts what comes into lines. Bytes, not text, are joined, so that no character is cut in two. */
function read(socket: net.Socket, take: (f: Frame) => void, lost: (why: Error) => void): void {
  let parts: Buffer[] = [];
  let why: Error | undefined;
  socket.on("data", (chunk: Buffer) => {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, end));
      from = end + 1;
      const line = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
      parts = [];
      let frame: Frame;
      try { frame = JSON.parse(line.toString("utf8")) as Frame; } catch {
        socket.destroy(new GmqError("bad_json", "what answers is no GMQ server", false));
        return;
      }
      take(frame);
    }
    if (from < chunk.length) parts.push(chunk.subarray(from));
  });
  socket.on("error", (e) => { why = e; });
  socket.on("close", () => lost(why ?? new GmqError("closed", "the server closed the connection", true)));
}

type Ask = (r: Request) => Promise<Reply>;

/** login says hello, and who the client is. */
async function login(ask: Ask, o: LinkOptions): Promise<Reply> {
  const hello: Request = { op: "hello", client: o.name ?? "gmq-typescript", protocol: 1 };
  if (o.token !== undefined) return ask({ ...hello, token: o.token });
  if (o.user === undefined) return ask(hello);
  return scram(ask, hello, o.user, o.password ?? "");
}

const derive = promisify(pbkdf2);
const hmac = (key: Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();

/** scram is SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding. */
async function scram(ask: Ask, hello: Request, user: string, password: string): Promise<Reply> {
  const nonce = randomBytes(18).toString("base64");
  const first = `n=${user.replaceAll("=", "=3D").replaceAll(",", "=2C")},r=${nonce}`;
  const one = await ask({ ...hello, mechanism: "SCRAM-SHA-256", data: Buffer.from(`n,,${first}`).toString("base64") });
  const server = Buffer.from(String(one["data"]), "base64").toString();
  const fields = new Map(server.split(",").map((f) => [f.slice(0, 1), f.slice(2)]));
  const both = fields.get("r") ?? "", iterations = Number(fields.get("i"));
  if (!both.startsWith(nonce) || both === nonce || !(iterations >= 4096 && iterations <= 10_000_000)) {
    throw new GmqError("unauthenticated", "the server's part of the login is not as it must be", false);
  }
  const salted = await derive(password, Buffer.from(fields.get("s") ?? "", "base64"), iterations, 32, "sha256");
  const key = hmac(salted, "Client Key");
  const final = `c=biws,r=${both}`;
  const signed = `${first},${server},${final}`;
  const signature = hmac(createHash("sha256").update(key).digest(), signed);
  const proof = Buffer.from(key.map((b, i) => b ^ signature[i]!)).toString("base64");
  const two = await ask({ op: "hello", data: Buffer.from(`${final},p=${proof}`).toString("base64") });
  const verdict = Buffer.from(String(two["data"]), "base64").toString();
  const want = Buffer.from(`v=${hmac(hmac(salted, "Server Key"), signed).toString("base64")}`);
  const got = Buffer.from(verdict);
  if (got.length !== want.length || !timingSafeEqual(got, want)) {
    throw new GmqError("unauthenticated", "the server does not know the password", false);
  }
  return two;
}
