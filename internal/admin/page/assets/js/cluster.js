// The nodes of a cluster: who is there, who leads what, who lags.
import { h, fill, set, show } from "./dom.js"
import { ask, watch } from "./api.js"
import * as f from "./format.js"
import { table } from "./table.js"
import { again, note, twice } from "./dialog.js"

// nodeColumns are those of every list of nodes.
export const nodeColumns = [
  { name: "Node", class: "name", cell: r => r.node + (r.here ? " (this one)" : "") },
  { name: "State", width: "c8", cell: r => r.reachable ? "● " + r.state + (r.behind > 1000 ? ", behind" : "") : "○ away" },
  { name: "Leads", number: true, narrow: false, width: "c5", cell: r => f.count(r.leads) },
  { name: "Behind", number: true, narrow: false, width: "c6", cell: (r, cell) => { cell.title = "entries that it lacks, as far as the leaders know"; return f.count(r.behind) } },
]

// survives says in a line what a cluster can lose as it is now.
export function survives(is) {
  const nodes = is.nodes.length, without = is.groups_without_leader ?? 0
  if (is.spare_nodes < 0 && is.groups_lost < is.groups_total) return `✕ A majority cannot be reached of ${is.groups_lost} of ${is.groups_total} groups of queues: nothing is stored there until it is back.`
  if (is.spare_nodes < 0) return "✕ A majority cannot be reached: nothing is stored until it is there again."
  if (without) return `✕ ${f.plural(without, "group")} of queues ${without === 1 ? "has" : "have"} no leader just now.`
  if (nodes === 1) return "The cluster has one node."
  if (is.spare_nodes === 0) return "! The loss of one more node stops the cluster."
  return `✓ The cluster goes on after the loss of any ${f.plural(is.spare_nodes, "node")}.`
}

export default function cluster(place, { who }) {
  if (!who.sees_server) {
    fill(place, h("p", { class: "empty", text: "The cluster is for those who have the right peek or admin on everything (peek:>)." }))
    return
  }
  const total = h("output", { class: "total", text: "\u00a0" })
  const says = h("p", { class: "hint", role: "status", id: "survives", text: "\u00a0" })
  const nodes = table([...nodeColumns,
    { name: "Clients", class: "name", narrow: false, cell: r => r.address },
    { name: "Other nodes", class: "name", narrow: false, cell: r => r.internal },
    { name: "Version", narrow: false, width: "c8", cell: r => r.version ?? f.none },
    who.sees_users && { name: "", number: true, width: "c16", cell: (r, cell) => { if (!cell.firstChild) fill(cell, actions(r)) } },
  ].filter(Boolean), { key: r => r.node, empty: "", caption: "Nodes" })
  const groups = table([
    { name: "Group", number: true, width: "c5", cell: r => String(r.group) },
    { name: "Leader", class: "name", cell: r => r.leader ?? "○ nobody" },
    { name: "Members", class: "name", cell: r => r.members.join(", ") + (r.learners ? `; catching up: ${r.learners.join(", ")}` : "") },
    { name: "Term", number: true, narrow: false, width: "c6", cell: r => f.count(r.term) },
  ], { key: r => r.group, empty: "", caption: "Groups of queues" })

  function actions(r) {
    return h("span", { class: "actions" },
      h("button", { type: "button", class: "small", onclick: () => handOver(r.node), text: "Hand over…" }),
      h("button", { type: "button", class: "small", onclick: () => remove(r.node), text: "Remove…" }))
  }
  function handOver(node) {
    again(`Hand over what ${node} leads`, h("p", { class: "what", text: "Other nodes lead its queues for ten minutes, or until it starts again: before it is stopped, say." }),
      () => `Let others lead what ${node} leads?`, "Hand over", async () => { await ask({ op: "cluster.transfer", name: node }); note(`${node} hands over`) })
  }
  function remove(node) {
    twice(`Remove ${node}`, `The cluster gets by without ${node} from then on, and lets it in no more; if it runs, it stops. To bring the machine back, let it join anew with an empty directory.`, node, "Remove",
      async () => { await ask({ op: "cluster.remove", name: node }); note(`${node} is being taken out`) })
  }

  const there = [h("section", { class: "panel pad" }, says), h("section", { class: "panel", id: "nodes" }, h("h2", { text: "Nodes" }), nodes.element), h("section", { class: "panel", id: "groups" }, h("h2", { text: "Groups of queues" }), groups.element)]
  const alone = h("p", { class: "empty", hidden: true }, "This server is alone. ", h("code", { text: "gmq cluster token" }), " makes it the first node of a cluster, and prints with what another one joins it.")
  fill(place, h("div", { class: "bar" }, h("h1", { text: "Cluster" }), total), alone, there)
  return watch("api/cluster", is => {
    show(alone, is.alone)
    for (const e of there) show(e, !is.alone)
    set(total, is.alone ? "" : `${f.plural(is.nodes.length, "node")}, each queue at ${is.replicas < is.nodes.length ? `${is.replicas} of them` : is.nodes.length === 1 ? "it" : "all of them"}`)
    set(says, is.alone ? "" : survives(is))
    nodes.update(is.nodes)
    groups.update(is.groups)
  }, e => fill(place, h("p", { class: "empty", text: e.message })))
}
