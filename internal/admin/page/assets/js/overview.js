// Everything at a glance.
import { h, fill, set, show } from "./dom.js"
import { watch } from "./api.js"
import * as f from "./format.js"
import { chart, History } from "./chart.js"
import { table, link } from "./table.js"
import { nodeColumns, survives } from "./cluster.js"

const history = { rates: new History(), depth: new History() }

const why = {
  dead_letters: ["†", "dead letters", "messages that failed for good; see why, mend it, and redrive them"],
  no_consumer: ["∅", "nobody consumes it", "messages wait, and nobody takes them"],
  paused: ["‖", "paused", "it delivers nothing until it is resumed"],
}

// queueColumns are those of every list of queues.
export const to = r => "#/queues/" + encodeURIComponent(r.queue)
export const queueColumns = [
  { name: "Queue", key: "queue", class: "name", cell: link(r => r.queue, to, paused) },
  { name: "Ready", key: "ready", number: true, width: "c6", cell: r => f.count(r.ready) },
  { name: "Leased", key: "leased", number: true, width: "c5", cell: r => f.count(r.leased) },
  { name: "Delayed", key: "delayed", number: true, narrow: false, width: "c6", cell: r => f.count(r.delayed) },
  { name: "In /s", key: "published", number: true, narrow: false, width: "c5", cell: r => f.rate(r.rates?.published) },
  { name: "Out /s", key: "delivered", number: true, narrow: false, width: "c5", cell: r => f.rate(r.rates?.delivered) },
  { name: "Oldest", key: "oldest", number: true, width: "c7", cell: r => f.duration(r.oldest_age_seconds) },
  { name: "Consumers", key: "consumers", number: true, narrow: false, width: "c7", cell: r => r.limited ? f.none : f.count(r.consumers) },
  { name: "Size", key: "bytes", number: true, narrow: false, width: "c6", cell: r => r.limited ? f.none : f.bytes(r.bytes) },
  { name: "Storage", narrow: false, width: "c6", cell: r => r.storage },
]

function paused(r, cell) {
  let mark = cell.querySelector(".tag")
  if (r.paused && !mark) cell.append(" ", h("span", { class: "tag", text: "‖ paused" }))
  else if (!r.paused) mark?.remove()
}

function tile(name, title) {
  const value = h("dd", { text: f.none }), small = h("dd", { class: "small", text: "\u00a0" })
  return { element: h("div", { class: "tile", title }, h("dt", { text: name }), value, small), show(v, s) { set(value, v); set(small, s || "\u00a0") } }
}

export default function overview(place, { who }) {
  const tiles = {
    ready: tile("Ready"), leased: tile("Leased, in flight", "delivered and not settled yet"), oldest: tile("Oldest message"), published: tile("Published /s"), delivered: tile("Delivered /s"),
    errors: tile("Errors /s", "requests that were refused"), memory: tile("Memory", "what the process takes; below it the bodies of memory queues, and their limit (limits.memory)"), disk: tile("Disk", "free, and what the journal takes"),
  }
  const server = ["errors", "memory", "disk"]
  const rates = chart("Messages a second", ["published", "delivered", "acked"], history.rates, f.rate)
  const depth = chart("Messages in queues", ["ready", "leased", "delayed"], history.depth, f.count)
  const attention = table([
    { name: "Queue", class: "name", cell: link(r => r.queue, to) },
    { name: "Why", class: "why", cell: (r, cell) => { const [mark, text, title] = why[r.why] ?? ["!", r.why, ""]; cell.title = title; return mark + " " + text } },
    { name: "Messages", number: true, width: "c6", cell: r => f.count(r.messages) },
  ], { key: r => r.queue, empty: "Nothing. No dead letters, no paused queue, none that waits without a consumer.", caption: "Queues that want looking at", open: r => { location.hash = to(r) } })
  const busiest = table(queueColumns.filter(c => c.name !== "Storage" && c.name !== "Size"), { key: r => r.queue, empty: "There are no queues yet. The first publish makes one: gmq pub orders hello", caption: "The busiest queues", open: r => { location.hash = to(r) } })
  const nodes = table([...nodeColumns, { name: "Address", class: "name", narrow: false, cell: r => r.address }], { key: r => r.node, empty: "", caption: "Nodes of the cluster" })
  const lasts = h("span", { class: "muted" })
  const nodesPanel = h("section", { class: "panel", hidden: true, id: "nodes" }, h("h2", {}, "Nodes ", lasts, h("a", { class: "more", href: "#/cluster", text: "cluster" })), nodes.element)
  const about = h("p", { class: "about", text: "\u00a0" })
  const errors = h("p", { class: "about", text: "\u00a0", hidden: !who.sees_server })
  fill(place, h("h1", { class: "hidden", text: "Overview" }),
    h("dl", { class: "tiles" }, Object.entries(tiles).filter(([n]) => who.sees_server || !server.includes(n)).map(([, t]) => t.element)),
    h("div", { class: "two" }, rates.element, depth.element),
    nodesPanel,
    h("div", { class: "two uneven" },
      h("section", { class: "panel", id: "attention" }, h("h2", { text: "Needs attention" }), attention.element),
      h("section", { class: "panel", id: "busiest" }, h("h2", {}, "Busiest queues ", h("a", { class: "more", href: "#/queues", text: "all queues" })), busiest.element)),
    errors, about)
  const stop = watch("api/overview", o => {
    const t = o.totals, r = o.rates, s = o.server
    tiles.ready.show(f.count(t.ready), `${f.count(t.delayed)} delayed`)
    tiles.leased.show(f.count(t.leased), f.plural(t.consumers, "consumer"))
    tiles.oldest.show(f.duration(o.oldest?.oldest_age_seconds), o.oldest?.queue)
    tiles.published.show(f.rate(r?.published), `in ${f.plural(t.queues, "queue")}`)
    tiles.delivered.show(f.rate(r?.delivered), r ? `${f.rate(r.acked)} acked` : "")
    if (s) {
      tiles.errors.show(r ? f.rate(s.errors_per_second) : f.none, f.plural(sum(s.errors), "error") + " so far")
      tiles.memory.show(f.bytes(s.process_bytes), `${f.bytes(s.memory_used_bytes)} of ${f.bytes(s.memory_limit_bytes)}`)
      tiles.disk.show(s.disk_total_bytes ? f.bytes(s.disk_free_bytes) + " free" : f.bytes(s.journal_bytes), `journal ${f.bytes(s.journal_bytes)}`)
      const codes = Object.entries(s.errors).sort((a, b) => b[1] - a[1])
      set(errors, codes.length ? "Errors since the start: " + codes.map(([c, n]) => `${c} ${f.count(n)}`).join(", ") : "No errors since the start.")
      show(nodesPanel, Boolean(s.nodes))
      if (s.nodes) {
        nodes.update(s.nodes)
        set(lasts, survives(s))
      }
    }
    if (r) {
      history.rates.push(o.at, [r.published, r.delivered, r.acked])
      rates.update()
    }
    history.depth.push(o.at, [t.ready, t.leased, t.delayed])
    depth.update()
    attention.update(o.attention)
    busiest.update(o.busiest)
    set(about, [`Node ${o.node}, version ${o.version}`, o.ready === "yes" ? "ready" : "NOT READY: " + o.ready, s && `up ${f.duration(s.uptime_seconds)}`, s && f.plural(s.connections, "connection"), s && `${f.bytes(s.journal_live_bytes)} of the journal are live`,
      s?.mysql_up === false && "MYSQL IS NOT TAKING ANYTHING", s?.certificate_ends && `certificate good until ${f.clock(s.certificate_ends)}`,
      s && (s.audit === "off" ? "no audit records are written" : `audit records go to ${s.audit === "log" ? "the log" : s.audit}`)].filter(Boolean).join(" · "))
  }, e => fill(place, h("p", { class: "empty", text: e.message })))
  return () => { stop(); rates.destroy(); depth.destroy() }
}

function sum(counts) { return Object.values(counts).reduce((a, b) => a + b, 0) }
