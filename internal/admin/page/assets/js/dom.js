// Elements. Text always goes in as text, never as markup: what stands in messages is other people's.

// h makes an element. A property that begins with "on" is a listener; class, text and data- are as they are named;
// true and false set and leave out an attribute.
export function h(tag, properties, ...children) {
  const e = document.createElement(tag)
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value)
    else if (name === "class") e.className = value
    else if (name === "text") e.textContent = value
    else if (name === "value") e.value = value
    else e.setAttribute(name, value === true ? "" : value)
  }
  add(e, children)
  return e
}

function add(e, children) {
  for (const c of children.flat(Infinity)) {
    if (c === undefined || c === null || c === false) continue
    e.append(c)
  }
}

// fill puts children in place of what an element holds.
export function fill(e, ...children) {
  e.replaceChildren()
  add(e, children)
}

// set changes a text if it is another one, so that nothing is painted anew for nothing.
export function set(e, text) {
  text = String(text)
  if (e.textContent !== text) e.textContent = text
}

// show shows or hides an element.
export function show(e, on) {
  if (e.hidden === on) e.hidden = !on
}

let labels = 0

// field is a labelled input.
export function field(label, input, hint) {
  input.id ||= "f" + ++labels
  return h("div", { class: "field" }, h("label", { for: input.id, text: label }), input, hint && h("p", { class: "hint", text: hint }))
}

// select is a choice; options are values, or pairs of a value and its text.
export function select(options, value, properties) {
  return h("select", { ...properties, value: undefined }, options.map(o => {
    const [v, text] = Array.isArray(o) ? o : [o, o]
    return h("option", { value: v, selected: v === value, text })
  }))
}
