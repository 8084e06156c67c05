// One queue: what goes on in it, what is in it, and what can be done to it.
import { h, fill, set, show } from "./dom.js"
import { path, watch, ask } from "./api.js"
import * as f from "./format.js"
import { chart, History } from "./chart.js"
import { table } from "./table.js"
import { form, twice, note } from "./dialog.js"
import { bind } from "./topics.js"
import { to } from "./overview.js"
import messages from "./messages.js"
import { edit, publish, redrive, settingNames } from "./actions.js"

const histories = new Map() // by queue; of the latest few

function historyOf(name) {
  const is = histories.get(name) ?? { rates: new History(), depth: new History() }
  histories.delete(name)
  histories.set(name, is)
  if (histories.size > 20) histories.delete(histories.keys().next().value)
  return is
}

const states = ["ready", "leased", "delayed"]
const ends = ["acked", "dead", "expired", "dropped", "cancelled", "purged", "redriven"]

// pairs is a list of names with values that change.
function pairs(names) {
  const values = new Map(names.map(([key]) => [key, h("dd", { text: f.none })]))
  return { element: h("dl", { class: "pairs numbers" }, names.map(([key, name]) => [h("dt", { text: name }), values.get(key)])), values }
}

export default function queue(place, { parts, who }) {
  const name = parts[1], dead = name.endsWith(".dlq")
  const kept = historyOf(name)
  const rates = chart("Messages a second", ["published", "delivered", "acked"], kept.rates, f.rate)
  const depth = chart("Messages in the queue", ["ready", "leased", "delayed"], kept.depth, f.count)
  let info = null

  const state = h("span", { class: "tag", hidden: true }), leader = h("span", { class: "muted", hidden: true, title: "the node of the cluster that takes and delivers its messages" })
  const pause = h("button", { type: "button", onclick: () => doPause(), text: "Pause", class: "c6" })
  const buttons = [
    h("button", { type: "button", id: "publish", class: "primary", onclick: () => publish(name, () => list.refresh()), text: "Publish…" }), pause,
    dead && h("button", { type: "button", id: "redrive", onclick: () => redrive(name, info, () => list.refresh()), text: "Redrive…" }),
    h("button", { type: "button", id: "purge", onclick: () => doPurge(), text: "Purge…" }),
    h("button", { type: "button", id: "delete", onclick: () => doDelete(), text: "Delete…" }),
  ]
  const now = pairs([...states.map(s => [s, s]), ["consumers", "consumers"], ["oldest", "oldest message"], ["bytes", "size"]])
  const past = pairs([["published", "published"], ...ends.map(e => [e, e])])
  const settings = h("dl", { class: "pairs numbers" })
  const bindings = h("ul", { class: "plain-list" })
  const consumers = table([
    { name: "Consumer", cell: (r, cell) => { cell.title = r.client; return r.client } },
    { name: "How", narrow: false, width: "c10", cell: r => (r.waiting ? "a receive that waits" : "subscription " + (r.subscription ?? "")) + (r.ack === "auto" ? ", auto ack" : "") },
    { name: "Has", number: true, width: "c7", cell: r => r.waiting ? f.none : `${f.count(r.leased)} of ${f.count(r.credit)}` },
  ], { key: r => r.client + " " + (r.subscription ?? "w"), empty: "Nobody consumes this queue.", caption: "Consumers" })
  const list = messages(name, dead, who, () => info)

  const doing = async (what, done) => { try { await what(); note(done) } catch (e) { note(e.message, true) } }
  function doPause() {
    const to = info?.paused ? "resume" : "pause"
    doing(() => ask({ op: "queue." + to, queue: name }), to === "pause" ? `${name} is paused: it takes messages and delivers none` : `${name} delivers again`)
  }
  function doPurge() {
    const which = list.state()
    const n = which ? info?.counts[which] : info && info.counts.ready + info.counts.leased + info.counts.delayed
    twice(`Purge ${name}`, `This takes ${which ? `all ${which} messages` : "all messages"}, ${f.count(n)} now, out of the queue. They are lost.` + (which ? "" : " To take only those in one state, choose it in the list of messages first."), name, "Purge",
      async () => { const is = await ask({ op: "queue.purge", queue: name, state: which || undefined }); note(`${f.plural(is.purged, "message")} purged`); list.refresh() })
  }
  function doDelete() {
    twice(`Delete ${name}`, `This deletes the queue with its ${f.plural(info ? info.counts.ready + info.counts.leased + info.counts.delayed : 0, "message")}, its settings and its bindings. Its dead-letter queue stays.`, name, "Delete",
      async () => { await ask({ op: "queue.delete", queue: name }); note(`${name} is deleted`); location.hash = "#/queues" })
  }
  function unbind(pattern) {
    form("Unbind", h("p", { class: "what" }, "From then on this queue gets no messages to ", h("code", { text: pattern }), ". What it has stays."), "Unbind",
      async close => { await ask({ op: "queue.unbind", queue: name, topic: pattern }); close(); note(`no longer bound to ${pattern}`) }, { danger: true })
  }

  const side = h("div", { class: "side" },
    h("section", { class: "panel pad", id: "now" }, h("h2", { text: "Now" }), now.element),
    h("section", { class: "panel pad", id: "counts" }, h("h2", { text: "Since it was made" }), past.element),
    h("section", { class: "panel pad", id: "settings" }, h("h2", {}, "Settings ", h("button", { type: "button", class: "small", id: "edit", onclick: () => info && edit(name, info.settings), text: "Edit…" })), settings),
    h("section", { class: "panel pad", id: "bindings" }, h("h2", {}, "Bound to ", h("button", { type: "button", class: "small", onclick: () => bind(name, () => {}), text: "Bind…" })), bindings))
  const centre = h("div", { class: "centre" }, h("div", { class: "two" }, rates.element, depth.element), list.element,
    h("section", { class: "panel", id: "consumers" }, h("h2", { text: "Consumers" }), consumers.element))
  const related = dead ? h("a", { class: "more", href: to({ queue: name.slice(0, -4) }), text: "the queue they died in" }) : h("a", { class: "more", href: to({ queue: name + ".dlq" }), text: "its dead letters", hidden: true })
  fill(place, h("div", { class: "bar" }, h("h1", {}, h("a", { href: "#/queues", class: "up", text: "Queues" }), " / ", h("span", { class: "name", text: name })), state, leader, related, h("span", { class: "room" }), h("span", { class: "actions" }, buttons)),
    h("div", { class: "queue" }, centre, side))

  let shownSettings = "", shownBindings = ""
  const stop = watch(path(["queues", name]), is => {
    info = is.info
    const c = info.counts, row = is.now
    set(pause, info.paused ? "Resume" : "Pause")
    show(state, info.paused)
    set(state, "‖ paused")
    show(leader, Boolean(row?.leader))
    set(leader, row?.leader ? `led by ${row.leader}` : "")
    if (!dead) show(related, c.dead > 0)
    for (const key of states) set(now.values.get(key), f.count(c[key]))
    set(now.values.get("consumers"), f.count(info.consumers))
    set(now.values.get("oldest"), f.duration(row?.oldest_age_seconds))
    set(now.values.get("bytes"), f.bytes(info.bytes))
    set(past.values.get("published"), f.count(c.published))
    for (const key of ends) set(past.values.get(key), f.count(c[key]))
    if (row?.rates) kept.rates.push(is.at, [row.rates.published, row.rates.delivered, row.rates.acked])
    kept.depth.push(is.at, [c.ready, c.leased, c.delayed])
    rates.update()
    depth.update()
    consumers.update(is.consumers)
    if (shownSettings !== (shownSettings = JSON.stringify(info.settings))) fill(settings, settingNames(info.settings).map(([n, v]) => [h("dt", { text: n }), h("dd", { text: v })]))
    if (shownBindings !== (shownBindings = JSON.stringify(info.bindings ?? []))) {
      fill(bindings, (info.bindings ?? []).map(p => h("li", {}, h("code", { text: p }), h("button", { type: "button", class: "small plain", "aria-label": `Unbind ${p}`, onclick: () => unbind(p), text: "✕" }))),
        !info.bindings && h("li", { class: "muted", text: "no topic" }))
    }
  }, e => fill(place, h("div", { class: "bar" }, h("h1", {}, h("a", { href: "#/queues", class: "up", text: "Queues" }), " / ", h("span", { class: "name", text: name }))), h("p", { class: "empty", text: e.message })))
  if (parts[2]) list.explain(parts[2])
  else list.refresh()
  return () => { stop(); rates.destroy(); depth.destroy(); list.destroy() }
}
