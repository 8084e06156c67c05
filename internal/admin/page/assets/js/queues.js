// All queues: found, ordered, a page at a time.
import { h, fill, set, select, field } from "./dom.js"
import { path, watch, ask } from "./api.js"
import * as f from "./format.js"
import { table } from "./table.js"
import { form, note } from "./dialog.js"
import { queueColumns, to } from "./overview.js"

const pageSize = 50

export default function queues(place, { query }) {
  const state = { search: query.get("search") ?? "", how: query.get("how") ?? "prefix", sort: query.get("sort") ?? "queue", down: query.get("down") === "true", page: Math.max(Number(query.get("page")) || 1, 1) }
  const search = h("input", { type: "search", value: state.search, placeholder: "Search…", "aria-label": "Search queues", spellcheck: "false", autocapitalize: "off" })
  const how = select([["prefix", "begins with"], ["search", "contains"]], state.how, { "aria-label": "How to search" })
  const total = h("output", { class: "total", text: "\u00a0" })
  const before = h("button", { type: "button", text: "← Previous", onclick: () => go({ page: state.page - 1 }) })
  const next = h("button", { type: "button", text: "Next →", onclick: () => go({ page: state.page + 1 }) })
  const where = h("span", { class: "where", text: "\u00a0" })
  const lists = h("div")
  let list = null, stop = null, timer = 0

  function make() {
    list = table(queueColumns, {
      key: r => r.queue, caption: "Queues", empty: "No queue matches.", open: r => { location.hash = to(r) },
      sort: { by: state.sort, down: state.down, change: (sort, down) => { go({ sort, down, page: 1 }); make() } },
    })
    fill(lists, list.element)
  }

  // go changes what is shown, and the address with it, without leaving the page: what is being typed stays.
  function go(change) {
    Object.assign(state, change)
    const q = new URLSearchParams(Object.entries({ search: state.search, how: state.how === "prefix" ? "" : state.how, sort: state.sort === "queue" ? "" : state.sort, down: state.down || "", page: state.page > 1 ? state.page : "" }).filter(([, v]) => v !== ""))
    history.replaceState(null, "", "#/queues" + (String(q) && "?" + q))
    stop?.()
    stop = watch(path(["queues"], { [state.how]: state.search, sort: state.sort, down: state.down, offset: (state.page - 1) * pageSize, limit: pageSize }), is => {
      const pages = Math.max(Math.ceil(is.total / pageSize), 1)
      if (state.page > pages) { go({ page: pages }); return }
      list.update(is.queues)
      set(total, f.plural(is.total, "queue"))
      set(where, `page ${f.count(state.page)} of ${f.count(pages)}`)
      before.disabled = state.page <= 1
      next.disabled = state.page >= pages
    }, e => list.say(e.message))
  }
  const typed = () => { clearTimeout(timer); timer = setTimeout(() => go({ search: search.value.trim(), how: how.value, page: 1 }), 150) }
  search.addEventListener("input", typed)
  how.addEventListener("change", typed)
  fill(place, h("div", { class: "bar" }, h("h1", { text: "Queues" }), total, h("span", { class: "room" }), how, search, h("button", { type: "button", onclick: create, text: "New queue…" })),
    h("section", { class: "panel" }, lists), h("div", { class: "bar pages" }, before, where, next))
  make()
  go({})
  return () => { stop?.(); clearTimeout(timer) }
}

function create() {
  const name = h("input", { required: true, autofocus: true, spellcheck: "false", autocapitalize: "off", maxlength: "255" })
  const storage = select(["", "file", "memory", "mysql"].map(s => [s, s || "as configured"]), "")
  form("New queue", [field("Name", name, "1 to 255 of A-Z a-z 0-9 . _ -"), field("Storage", storage, "It never changes afterwards. All other settings can be changed on the queue's page.")], "Create", async close => {
    const queue = name.value.trim()
    await ask({ op: "queue.create", queue, storage: storage.value || undefined })
    close()
    note(`${queue} is there`)
    location.hash = to({ queue })
  })
}
