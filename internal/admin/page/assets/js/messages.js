// What is in a queue, and why a message is where it is.
import { h, fill, set, field } from "./dom.js"
import { path, get, ask } from "./api.js"
import * as f from "./format.js"
import { table } from "./table.js"
import { open, form, twice, note } from "./dialog.js"

const pageSize = 25
const marks = { ready: "●", leased: "◐", delayed: "◷", settled: "✓" }

export default function messages(name, dead, who, info) {
  let state = "", after = [0], next = 0, timer = 0, loading = 0
  const tabs = ["", "ready", "leased", "delayed"].map(s => h("button", { type: "button", role: "radio", "aria-checked": s === "" ? "true" : "false", "data-state": s, onclick: () => choose(s), text: s === "" ? "All" : s[0].toUpperCase() + s.slice(1) }))
  const search = h("input", { type: "search", placeholder: "Body, header, key, number…", "aria-label": "Search messages", spellcheck: "false", autocapitalize: "off" })
  const says = h("span", { class: "where", role: "status", text: "\u00a0" })
  const back = h("button", { type: "button", onclick: () => { after.pop(); load() }, text: "← Earlier" })
  const on = h("button", { type: "button", onclick: () => { after.push(next); load() }, text: "Later →" })
  const list = table([
    { name: "Seq", number: true, width: "c5", cell: (r, cell) => { if (cell.textContent !== String(r.seq)) fill(cell, h("button", { type: "button", class: "link", onclick: () => explain(r.seq), text: r.seq })) } },
    { name: "State", width: "c6", cell: r => `${marks[r.state] ?? ""} ${r.state}` },
    { name: "Tries", number: true, width: "c4", narrow: false, cell: r => f.count(r.attempt) },
    { name: "Published", number: true, width: "c8", narrow: false, cell: (r, cell) => { cell.title = f.clock(r.published); return f.ago(r.published) } },
    dead ? { name: "Died of", cell: (r, cell) => { const why = r.headers?.["gmq-dead-reason"] ?? f.none; cell.title = why; return why } } : { name: "Key", width: "c6", narrow: false, cell: r => r.key ?? f.none },
    { name: "Body", class: "body", narrow: dead ? false : undefined, cell: r => snippet(r) },
  ], { key: r => r.seq, empty: "No message here.", caption: "Messages", open: r => explain(r.seq) })

  function choose(s) {
    state = s
    for (const t of tabs) t.setAttribute("aria-checked", String(t.dataset.state === s))
    first()
  }
  function first() { after = [0]; load() }

  async function load() {
    const mine = ++loading
    const text = search.value.trim()
    try {
      const is = await get(path(["queues", name, "messages"], { state, after: after.at(-1) || "", limit: pageSize, search: text }))
      if (mine !== loading) return
      list.update(is.messages)
      next = is.next ?? 0
      back.disabled = after.length <= 1
      on.disabled = !next
      set(says, text ? `${f.plural(is.messages.length, "hit")} among ${f.plural(is.looked_at, "message")}${next ? ", and there are more behind" : ""}` : is.messages.length ? `${is.messages[0].seq} to ${is.messages.at(-1).seq}` : "\u00a0")
    } catch (e) {
      if (mine === loading) list.say(e.message)
    }
  }

  const element = h("section", { class: "panel", id: "messages" }, h("div", { class: "head" }, h("h2", { text: "Messages" }), h("div", { class: "tabs", role: "radiogroup", "aria-label": "State" }, tabs), h("span", { class: "room" }), search,
    h("button", { type: "button", class: "small", onclick: () => load(), "aria-label": "Look again", title: "Look again", text: "↻" })),
  list.element, h("div", { class: "foot" }, back, says, on))
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(first, 200) })

  async function explain(seq) {
    let is
    try {
      is = await get(path(["queues", name, "messages", String(seq)]))
    } catch (e) {
      note(e.message, true)
      return
    }
    if (!document.body.contains(element)) return
    history.replaceState(null, "", `#/queues/${encodeURIComponent(name)}/${seq}`)
    open(`Message ${seq}`, (close, body) => view(is, seq, close, () => again(seq, body, close)), {
      class: "large", closed: () => { if (location.hash === `#/queues/${encodeURIComponent(name)}/${seq}`) history.replaceState(null, "", `#/queues/${encodeURIComponent(name)}`) },
    })
  }
  async function again(seq, body, close) {
    try { fill(body, view(await get(path(["queues", name, "messages", String(seq)])), seq, close, () => again(seq, body, close))) } catch (e) { close(); note(e.message, true) }
    load()
  }

  function view({ explain: x, message: m }, seq, close, refresh) {
    const act = async (what, done) => { try { await what(); note(done); refresh() } catch (e) { note(e.message, true) } }
    const waits = x.state === "ready" || x.state === "delayed"
    const died = m?.headers?.["gmq-dead-reason"]
    return [
      died && h("p", { class: "because", id: "died" }, h("b", { text: "† died" }), " in ", there(m.headers), ` after ${f.plural(Number(m.headers["gmq-dead-attempts"]), "attempt")}: ${died}. `,
        dead && h("span", { class: "muted", text: "Mend the cause; then Redrive…, on this queue's page, sends it back with all others." })),
      h("p", { class: "because", id: "because" }, h("b", { text: `${marks[x.state] ?? ""} ${x.state}` }), x.state === "settled" ? ": " : " because ", x.because + ".", info()?.paused && !x.because.includes("paused") ? " The queue is paused, besides." : ""),
      h("dl", { class: "pairs" }, pair("Attempts", f.count(x.attempts)), x.until && pair(x.state === "leased" ? "Lease ends" : "Due", `${f.clock(x.until)} (${f.ago(x.until)})`), x.lease && pair("Consumer", x.lease.consumer),
        m && [pair("Published", `${f.clock(m.published)} (${f.ago(m.published)})`), m.key && pair("Key", m.key), m.topic && pair("Topic", m.topic)]),
      m?.headers && [h("h3", { text: "Headers" }), h("dl", { class: "pairs code" }, Object.entries(m.headers).map(([n, v]) => pair(n, v)))],
      m && [h("h3", {}, "Body", h("span", { class: "muted", text: " " + kindOf(m) })), h("pre", { class: "content", tabindex: "0", text: pretty(m) })],
      h("h3", { text: "What happened to it" }),
      x.history.length ? h("ol", { class: "history" }, x.history.map(e => h("li", {}, h("time", { text: f.clock(e.at) }), " ", h("b", { text: e.event }), e.reason ? `: ${e.reason}` : "", h("span", { class: "muted", text: ` (${f.plural(e.attempts, "attempt")})` }))))
        : h("p", { class: "muted", text: died ? "Nothing, since it came here; what had happened before is told where it died." : "Nothing is remembered: it has not been returned since the server started, or that is too long ago." }),
      h("div", { class: "buttons" },
        x.state === "delayed" && h("button", { type: "button", onclick: () => act(() => ask({ op: "queue.reschedule", queue: name, seq: Number(seq), delay: "0s" }), `Message ${seq} is due now`), text: "Deliver now" }),
        waits && h("button", { type: "button", onclick: () => later(seq, refresh), text: "Deliver later…" }),
        waits && h("button", { type: "button", class: "danger", onclick: () => twice(`Cancel message ${seq}`, "This takes the message out of its queue. It is lost.", String(seq), "Cancel the message", async () => { await ask({ op: "queue.cancel", queue: name, seq: Number(seq) }); note(`Message ${seq} is cancelled`); close(); load() }), text: "Cancel it…" }),
        h("button", { type: "button", onclick: refresh, text: "Look again" }), h("button", { type: "button", class: "primary", onclick: close, text: "Close" })),
    ]
  }

  function later(seq, refresh) {
    const delay = h("input", { required: true, value: "1h", spellcheck: "false", autofocus: true })
    form(`Message ${seq} later`, field("In", delay, "such as 30s, 5m, 24h"), "Reschedule", async close => {
      await ask({ op: "queue.reschedule", queue: name, seq: Number(seq), delay: delay.value.trim() })
      close()
      note(`Message ${seq} is due in ${delay.value}`)
      refresh()
    })
  }

  back.disabled = on.disabled = true
  return { element, refresh: load, explain: seq => { load(); explain(seq) }, state: () => state, destroy: () => clearTimeout(timer) }
}

// there leads to what a dead letter was in the queue where it died.
function there(headers) {
  const queue = headers["gmq-dead-queue"], seq = headers["gmq-dead-seq"]
  return h("a", { href: `#/queues/${encodeURIComponent(queue)}/${encodeURIComponent(seq)}`, title: `message ${seq} there`, text: queue })
}

function pair(name, value) { return [h("dt", { text: name }), h("dd", { text: value })] }

// bytesOf are those of a body in base64.
function bytesOf(m) { return Uint8Array.from(atob(m.body), c => c.charCodeAt(0)) }

function kindOf(m) {
  if (m.encoding === "base64") return `${f.bytes(bytesOf(m).length)}, not text as far as is known`
  return typeof m.body === "string" ? "a string" : "JSON"
}

function pretty(m) {
  if (m.encoding === "base64") {
    const b = bytesOf(m)
    try { return new TextDecoder("utf-8", { fatal: true }).decode(b) } catch { return dump(b) }
  }
  if (typeof m.body !== "string") return indent(m.body_text)
  try {
    const inner = JSON.parse(m.body)
    if (typeof inner === "object" && inner) return indent(m.body)
  } catch { /* a text and no JSON */ }
  return m.body
}

// indent sets JSON in lines without reading it: numbers stay as they were sent, however long, and names that stand twice stay.
export function indent(json) {
  let out = "", depth = 0
  const line = () => "\n" + "  ".repeat(depth)
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === "{" || token === "[") { depth++; out += token + line() }
    else if (token === "}" || token === "]") { depth--; out = /[{[]\s*$/.test(out) ? out.trimEnd() + token : out + line() + token }
    else if (token === ",") out += "," + line()
    else if (token === ":") out += ": "
    else out += token
  }
  return out
}

function dump(b) {
  const lines = []
  for (let i = 0; i < b.length && i < 4096; i += 16) {
    const part = [...b.slice(i, i + 16)]
    lines.push(i.toString(16).padStart(6, "0") + "  " + part.map(x => x.toString(16).padStart(2, "0")).join(" ").padEnd(48) + " " + part.map(x => x > 31 && x < 127 ? String.fromCharCode(x) : ".").join(""))
  }
  return lines.join("\n") + (b.length > 4096 ? `\n… and ${f.bytes(b.length - 4096)} more` : "")
}

function snippet(m) {
  const text = m.encoding === "base64" ? pretty(m).slice(0, 200) : typeof m.body === "string" ? m.body : m.body_text
  return text.length > 300 ? text.slice(0, 300) + "…" : text
}
