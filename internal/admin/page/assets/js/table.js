// Tables whose rows are kept while their numbers change, so that nothing jumps and the focus stays.
import { h, set, fill } from "./dom.js"

// table makes one. A column has: name, key (by which to sort), number (set to the right), narrow (false: not on small
// screens), width, and cell, which gives a text or an element for a row. options: key(row), sort {by, down, change},
// empty (a text), caption, open(row) for Enter and clicks.
export function table(columns, options) {
  const heads = columns.map(c => head(c, options.sort))
  const body = h("tbody")
  const empty = h("p", { class: "empty", text: options.empty })
  const element = h("div", { class: "table" },
    h("table", {}, h("caption", { class: "hidden", text: options.caption }),
      h("colgroup", {}, columns.map(c => h("col", { class: (c.narrow === false ? "wide " : "") + (c.width ?? "") }))),
      h("thead", {}, h("tr", {}, heads)), body), empty)
  empty.hidden = true
  const known = new Map()
  return {
    element,
    update(rows) {
      const order = rows.map(r => {
        const key = options.key(r)
        let tr = known.get(key)
        if (!tr) known.set(key, tr = row(columns, options))
        tr.show(r)
        return tr
      })
      const elements = order.map(r => r.element)
      if (elements.length !== body.children.length || elements.some((e, i) => body.children[i] !== e)) {
        const focus = body.contains(document.activeElement) ? document.activeElement : null
        body.replaceChildren(...elements)
        if (focus?.isConnected) focus.focus({ preventScroll: true })
      }
      for (const [key, r] of known) if (!order.includes(r)) known.delete(key)
      empty.hidden = rows.length > 0
    },
    say(text) { set(empty, text); empty.hidden = false; body.replaceChildren(); known.clear() },
  }
}

function kind(c) {
  return [c.number && "number", c.narrow === false && "wide", c.class].filter(Boolean).join(" ")
}

function head(c, sort) {
  if (!sort || !c.key) return h("th", { scope: "col", class: kind(c), text: c.name })
  const by = sort.by === c.key
  const how = by ? (sort.down ? "descending" : "ascending") : "none"
  const button = h("button", { class: "sort", type: "button", onclick: () => sort.change(c.key, by ? !sort.down : Boolean(c.number)) },
    c.name, h("span", { "aria-hidden": "true", class: "arrow", text: by ? (sort.down ? "▼" : "▲") : "" }))
  return h("th", { scope: "col", class: kind(c), "aria-sort": how }, button)
}

function row(columns, options) {
  const cells = columns.map(c => h("td", { class: kind(c) }))
  const element = h("tr", {}, cells)
  let is = null
  if (options.open) {
    element.classList.add("opens")
    element.addEventListener("click", e => { if (!e.target.closest("a, button, input")) options.open(is) })
  }
  return {
    element,
    show(r) {
      is = r
      columns.forEach((c, i) => {
        const value = c.cell(r, cells[i])
        if (value instanceof Node) fill(cells[i], value)
        else if (value !== undefined) set(cells[i], value)
      })
    },
  }
}

// link is a cell's function for a name that leads somewhere: the link is made once.
export function link(text, to, more) {
  return (r, cell) => {
    const a = cell.firstChild
    if (a?.tagName === "A" && a.textContent === text(r)) { more?.(r, cell); return undefined }
    fill(cell, h("a", { href: to(r), title: text(r), text: text(r) }))
    more?.(r, cell)
    return undefined
  }
}
