// What can be done to a queue, each in a dialog.
import { h, field, select } from "./dom.js"
import { ask } from "./api.js"
import * as f from "./format.js"
import { form, again, note } from "./dialog.js"

const unlimited = n => n === 0 ? "no limit" : f.count(n)
const words = d => d.replace(/(\d)h0m0s$/, "$1h").replace(/(\d)m0s$/, "$1m")

// settingNames are the settings of a queue as pairs of names and texts.
export function settingNames(s) {
  return [["storage", s.storage], ["max_messages", unlimited(s.max_messages)], ["max_bytes", s.max_bytes === 0 ? "no limit" : f.bytes(s.max_bytes)], ["overflow", s.overflow], ["lease", words(s.lease)],
    ["max_deliveries", unlimited(s.max_deliveries)], ["retry", `${words(s.retry.min)} ×${s.retry.factor} ≤${words(s.retry.max)} ±${Math.round(s.retry.jitter * 100)}%`],
    ["ttl", s.ttl === "0s" ? "none" : words(s.ttl)], ["dedup_window", words(s.dedup_window)], ["dead_letter_expired", s.dead_letter_expired ? "yes" : "no"]]
}

const text = (value, properties) => h("input", { value: String(value), spellcheck: "false", autocapitalize: "off", ...properties })

// edit changes what is changed of the settings, and nothing else.
export function edit(name, s) {
  const inputs = {
    max_messages: text(s.max_messages, { inputmode: "numeric" }), max_bytes: text(s.max_bytes, { inputmode: "numeric" }),
    overflow: select(name.endsWith(".dlq") ? ["reject", "drop_oldest"] : ["reject", "drop_oldest", "dead_letter"], s.overflow), lease: text(s.lease), max_deliveries: text(s.max_deliveries, { inputmode: "numeric" }),
    min: text(s.retry.min), max: text(s.retry.max), factor: text(s.retry.factor, { inputmode: "decimal" }), jitter: text(s.retry.jitter, { inputmode: "decimal" }),
    ttl: text(s.ttl), dedup_window: text(s.dedup_window), dead_letter_expired: h("input", { type: "checkbox", id: "dead-expired", checked: s.dead_letter_expired }),
  }
  const numbers = ["max_messages", "max_bytes", "max_deliveries", "factor", "jitter"]
  form(`Settings of ${name}`, h("div", { class: "grid" },
    field("max_messages", inputs.max_messages, "0: no limit"), field("max_bytes", inputs.max_bytes, "of bodies; 0: no limit"), field("overflow", inputs.overflow, "what a publish into a full queue does"),
    field("lease", inputs.lease, "how long a consumer may take"), field("max_deliveries", inputs.max_deliveries, "attempts until a message dies; 0: no limit"), field("ttl", inputs.ttl, "0s: messages do not expire"),
    field("retry: min", inputs.min), field("retry: max", inputs.max), field("retry: factor", inputs.factor), field("retry: jitter", inputs.jitter, "0.2 is 20 % either way"),
    field("dedup_window", inputs.dedup_window, "how long a dedup_id is remembered"), h("label", { class: "check", for: "dead-expired" }, inputs.dead_letter_expired, " dead_letter_expired")),
  "Save", async close => {
    const change = {}, retry = {}
    const before = { ...s, ...s.retry }
    for (const [key, i] of Object.entries(inputs)) {
      const value = key === "dead_letter_expired" ? i.checked : numbers.includes(key) ? number(key, i.value) : i.value.trim()
      if (value === before[key]) continue
      if (key in s.retry) retry[key] = value
      else change[key] = value
    }
    if (Object.keys(retry).length) change.retry = retry
    if (!Object.keys(change).length) { close(); note("Nothing was changed"); return }
    await ask({ op: "queue.update", queue: name, ...change })
    close()
    note(`Changed: ${Object.keys(change).join(", ")}`)
  }, { class: "large" })
}

function number(name, value) {
  const n = Number(value)
  if (value.trim() === "" || Number.isNaN(n)) throw new Error(`${name} must be a number.`)
  return n
}

// publish sends a test message. The body goes on as it was written: the server delivers bytes unchanged, and so they must not pass through
// a number type here.
export function publish(name, done) {
  const body = h("textarea", { rows: "6", spellcheck: "false", autofocus: true, autocapitalize: "off", "aria-label": "Body" })
  const key = text(""), headers = text("", { placeholder: "trace=7f3a, source=page" }), delay = text("", { placeholder: "30s" }), priority = text(4, { inputmode: "numeric" })
  form(`Publish into ${name}`, [field("Body", body, "JSON, or anything else, which is sent as a string."),
    h("div", { class: "grid" }, field("Key", key), field("Delay", delay), field("Priority", priority, "0 to 9"), field("Headers", headers))], "Publish", async close => {
    const rest = { key: key.value || undefined, delay: delay.value.trim() || undefined, priority: number("Priority", priority.value), headers: pairsOf(headers.value) }
    const line = JSON.stringify({ op: "publish", queue: name, create: false, ...rest }).slice(0, -1) + `,"body":${bodyOf(body.value)}}`
    const is = await ask(line)
    close()
    note(`Message ${is.seq} is stored (${is.stored})`)
    done()
  })
}

function bodyOf(written) {
  try {
    JSON.parse(written)
    return written.trim().replace(/[\r\n]+/g, " ")
  } catch {
    return JSON.stringify(written)
  }
}

function pairsOf(written) {
  const all = written.split(",").map(s => s.trim()).filter(Boolean).map(p => {
    const at = p.indexOf("=")
    if (at < 1) throw new Error(`Headers are name=value, with commas between them, not ${p}.`)
    return [p.slice(0, at).trim(), p.slice(at + 1).trim()]
  })
  return all.length ? Object.fromEntries(all) : undefined
}

// redrive moves dead letters back, or elsewhere.
export function redrive(name, info, done) {
  const target = text("", { placeholder: "where each of them died" }), max = text("", { placeholder: "all", inputmode: "numeric" })
  again(`Redrive ${name}`, [h("p", { class: "what", text: `${f.plural(info?.counts.ready ?? 0, "dead letter")} can go. They become new messages, at their first attempt. Mend first what they died of.` }),
    field("Into the queue", target), field("At most", max, "1 tries with one first.")],
  () => {
    if (max.value.trim() !== "" && !(number("At most", max.value) >= 1)) throw new Error("At most must be 1 or more.")
    return `Move ${max.value.trim() ? "at most " + f.plural(Number(max.value), "message") : "all messages that can go"} ${target.value.trim() ? "into " + target.value.trim() : "back into the queues they died in"}?`
  }, "Redrive", async () => {
    // Without a number it is as many as there are now, so that what dies again meanwhile is not moved for ever.
    let left = max.value.trim() ? Number(max.value) : Math.max((info?.counts.ready ?? 0) + (info?.counts.delayed ?? 0), 1), moved = 0
    for (;;) {
      const n = Math.min(left, 100000)
      const is = await ask({ op: "queue.redrive", queue: name, to: target.value.trim() || undefined, max: n })
      moved += is.moved
      left -= is.moved
      if (is.moved === 0 || left <= 0) break // fewer than were asked for may be all that one request looks at
    }
    note(moved ? `${f.plural(moved, "message")} moved` : "Nothing could be moved: its queue is gone or full, somebody has leased it, or it was published here directly", !moved)
    done()
  })
}
