// Asking, and telling what came of it.
import { h, fill } from "./dom.js"

// note tells something in passing.
export function note(text, bad) {
  const box = h("p", { class: bad ? "note bad" : "note", text: (bad ? "✕ " : "✓ ") + text })
  document.getElementById("notes").append(box)
  setTimeout(() => box.remove(), bad ? 12000 : 5000)
}

// open shows a dialog with a title; content gets what closes it, and gives what stands in it.
export function open(title, content, options = {}) {
  const d = h("dialog", { class: options.class, "aria-label": title })
  const close = () => d.close()
  d.addEventListener("close", () => { d.remove(); options.closed?.() })
  d.addEventListener("click", e => { if (e.target === d) close() })
  const body = h("div", { class: "body" })
  d.append(h("div", { class: "title" }, h("h2", { text: title }), h("button", { type: "button", class: "plain", "aria-label": "Close", onclick: close, text: "✕" })), body)
  fill(body, content(close, body))
  document.body.append(d)
  d.showModal()
  return { close, body, element: d }
}

// form asks for something: fields are what stands in the dialog, submit is called when it is to be done and may refuse by throwing.
export function form(title, fields, submitText, submit, options = {}) {
  return open(title, close => {
    const error = h("p", { class: "error", role: "alert" })
    const button = h("button", { type: "submit", class: options.danger ? "danger" : "primary", text: submitText })
    return h("form", {
      onsubmit: async e => {
        e.preventDefault()
        button.disabled = true
        error.textContent = ""
        try {
          await submit(close)
        } catch (failed) {
          error.textContent = failed.message
        }
        button.disabled = false
      },
    }, fields, error, h("div", { class: "buttons" }, h("button", { type: "button", onclick: close, text: "Cancel" }), button))
  }, options)
}

// twice asks twice before something that cannot be undone: what is going to happen, and then for a word to be typed.
export function twice(title, what, word, doText, act) {
  form(title, h("p", { class: "what", text: what }), "Go on…", first => {
    first()
    const input = h("input", { autocomplete: "off", spellcheck: "false", autofocus: true, "aria-label": `Type ${word} to go on` })
    form(title, [h("p", { class: "what" }, "This cannot be undone. Type ", h("code", { text: word }), " to go on."), input], doText, async close => {
      if (input.value.trim() !== word) throw new Error(`That is not ${word}.`)
      await act()
      close()
    }, { danger: true })
  }, { danger: true })
}

// again asks twice before something that changes much and loses nothing.
export function again(title, fields, question, doText, act) {
  form(title, fields, "Go on…", async first => {
    const text = await question()
    first()
    form(title, h("p", { class: "what", text }), doText, async close => { await act(); close() })
  })
}
