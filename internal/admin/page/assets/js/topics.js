// Which queues get what is published to topics.
import { h, fill, set, field } from "./dom.js"
import { path, get, ask } from "./api.js"
import * as f from "./format.js"
import { table, link } from "./table.js"
import { form, note } from "./dialog.js"
import { to } from "./overview.js"

const pageSize = 100

export default function topics(place) {
  const state = { search: "", topic: "", page: 1 }
  const search = h("input", { type: "search", placeholder: "Pattern or queue…", "aria-label": "Search bindings", spellcheck: "false" })
  const topic = h("input", { placeholder: "files.eu.added", "aria-label": "Topic", spellcheck: "false", autocapitalize: "off" })
  const total = h("output", { class: "total", text: "\u00a0" })
  const before = h("button", { type: "button", text: "← Previous", onclick: () => load({ page: state.page - 1 }) })
  const next = h("button", { type: "button", text: "Next →", onclick: () => load({ page: state.page + 1 }) })
  const where = h("span", { class: "where", text: "\u00a0" })
  const says = h("p", { class: "hint", role: "status", text: "Leave it empty to see all bindings." })
  let timer = 0, loading = 0
  const list = table([
    { name: "Pattern", class: "name", cell: r => r.pattern },
    { name: "Queue", class: "name", cell: link(r => r.queue, to) },
    { name: "", number: true, width: "c7", cell: (r, cell) => { fill(cell, h("button", { type: "button", class: "small", onclick: () => unbind(r), text: "Unbind…" })) } },
  ], { key: r => r.pattern + " " + r.queue, empty: "No queue is bound to any topic.", caption: "Bindings" })

  async function load(change) {
    Object.assign(state, change)
    const mine = ++loading // an answer that comes late is not shown over a later one
    try {
      const is = await get(path(["topics"], { search: state.search, topic: state.topic, offset: (state.page - 1) * pageSize, limit: pageSize }))
      if (mine !== loading) return
      const pages = Math.max(Math.ceil(is.total / pageSize), 1)
      list.update(is.bindings)
      set(total, f.plural(is.total, "binding"))
      set(where, `page ${f.count(state.page)} of ${f.count(pages)}`)
      before.disabled = state.page <= 1
      next.disabled = state.page >= pages
      set(says, state.topic ? (is.total ? `A message to ${state.topic} goes into the queues below.` : `Nobody gets a message to ${state.topic}: no pattern matches.`) : "Leave it empty to see all bindings.")
      says.classList.remove("error")
    } catch (e) {
      if (mine !== loading) return
      set(says, e.message)
      says.classList.add("error")
    }
  }
  const typed = () => { clearTimeout(timer); timer = setTimeout(() => load({ search: search.value.trim(), topic: topic.value.trim(), page: 1 }), 150) }
  search.addEventListener("input", typed)
  topic.addEventListener("input", typed)

  function unbind(r) {
    form("Unbind", h("p", { class: "what" }, "From then on ", h("code", { text: r.queue }), " gets no messages to ", h("code", { text: r.pattern }), ". What it has stays."), "Unbind", async close => {
      await ask({ op: "queue.unbind", queue: r.queue, topic: r.pattern })
      close()
      note(`${r.queue} is no longer bound to ${r.pattern}`)
      load({})
    }, { danger: true })
  }
  fill(place, h("div", { class: "bar" }, h("h1", { text: "Topics" }), total, h("span", { class: "room" }), search, h("button", { type: "button", onclick: () => bind("", () => load({})), text: "Bind a queue…" })),
    h("section", { class: "panel pad" }, field("Who gets a message to this topic?", topic), says),
    h("section", { class: "panel" }, list.element), h("div", { class: "bar pages" }, before, where, next))
  load({})
  return () => clearTimeout(timer)
}

// bind asks for a binding; done is called when there is one.
export function bind(queue, done) {
  const name = h("input", { required: true, value: queue, readonly: queue !== "", spellcheck: "false", autocapitalize: "off" })
  const pattern = h("input", { required: true, autofocus: true, spellcheck: "false", autocapitalize: "off" })
  form("Bind a queue to topics", [field("Queue", name), field("Pattern", pattern, "Words with dots between them. * is any one word, > as the last word one or more.")], "Bind", async close => {
    await ask({ op: "queue.bind", queue: name.value.trim(), topic: pattern.value.trim() })
    close()
    note(`${name.value} is bound to ${pattern.value}`)
    done()
  })
}
