// The real server, for the tests: its binary is GMQ_EXE, or is built.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { after, type TestContext } from "node:test";

const root = path.resolve(import.meta.dirname, "../../../..");
const scratch = mkdtempSync(path.join(tmpdir(), "gmq-typescript-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

let exe = process.env["GMQ_EXE"];

/** binary is the path of the server's binary. */
export function binary(): string {
  if (!exe) {
    exe = path.join(scratch, "gmq");
    execFileSync("go", ["build", "-o", exe, "./cmd/gmq"], { cwd: root, env: { ...process.env, CGO_ENABLED: "0" } });
  }
  return exe;
}

let count = 0;

/** A Server is a data directory and a process that serves it. */
export class Server {
  readonly dir: string;
  port = 0;
  #args: string[] = [];
  #child: ChildProcess | undefined;

  private constructor(dir: string) { this.dir = dir; }

  /** start runs a server that ends with the test, with further arguments. */
  static async start(t: TestContext, config = "", args: string[] = []): Promise<Server> {
    const dir = path.join(scratch, String(++count));
    const s = new Server(dir);
    s.#args = args;
    execFileSync("mkdir", ["-p", dir]);
    writeFileSync(path.join(dir, "gmq.yaml"), config);
    await s.up();
    t.after(() => s.kill());
    return s;
  }

  /** up starts the process, at the port that it had before, and waits until it is ready. */
  async up(): Promise<void> {
    const child = spawn(binary(), ["serve", "--config", "gmq.yaml", "--data", "data", "--listen", `127.0.0.1:${this.port}`, "--admin", "off", ...this.#args], {
      cwd: this.dir, stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child = child;
    const log: string[] = [];
    await new Promise<void>((resolve, reject) => {
      child.on("exit", () => reject(new Error(`the server has ended:\n${log.join("\n")}`)));
      createInterface({ input: child.stderr! }).on("line", (line) => {
        log.push(line);
        const entry = JSON.parse(line) as { msg?: string; listen?: string };
        if (entry.msg === "ready") {
          this.port = Number(entry.listen!.split(":").at(-1));
          resolve();
        }
      });
    });
  }

  signal(name: NodeJS.Signals): void { this.#child!.kill(name); }

  /** kill is kill -9. */
  async kill(): Promise<void> {
    const child = this.#child!;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const over = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGKILL");
    await over;
  }
}
