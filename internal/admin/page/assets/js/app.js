// The frame: what stands on top, which view is shown, and the keys.
import { h, fill, set, show, field } from "./dom.js"
import * as api from "./api.js"
import { open } from "./dialog.js"
import overview from "./overview.js"
import queues from "./queues.js"
import queue from "./queue.js"
import topics from "./topics.js"
import cluster from "./cluster.js"
import users from "./users.js"

const main = document.getElementById("main")
const pages = [["", "Overview", "o"], ["queues", "Queues", "q"], ["topics", "Topics", "t"], ["cluster", "Cluster", "c"], ["users", "Users", "u"]]

let who = null
let leave = null

// here is where the address leads: the parts behind #/, and the query.
function here() {
  const [where, query] = location.hash.replace(/^#\/?/, "").split("?")
  return { parts: where.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) }
}

function view(parts) {
  if (parts.length === 0) return overview
  if (parts[0] === "queues") return parts.length === 1 ? queues : queue
  return { topics, cluster, users }[parts[0]] ?? lost
}

function lost(place) {
  fill(place, h("p", { class: "empty" }, "There is no such page. ", h("a", { href: "#/", text: "Overview" })))
}

function route() {
  leave?.()
  leave = null
  set(live, "")
  for (const d of document.querySelectorAll("dialog")) d.close()
  const at = here()
  for (const a of document.querySelectorAll("#top nav a")) {
    a.toggleAttribute("aria-current", a.dataset.page === (at.parts[0] ?? ""))
    if (a.hasAttribute("aria-current")) a.setAttribute("aria-current", "page")
  }
  document.title = ["GMQ", ...at.parts].reverse().join(" · ")
  leave = view(at.parts)(main, { ...at, who }) ?? null
  scrollTo(0, 0)
}

const live = h("span", { class: "live", title: "the numbers are live", text: "" })
addEventListener("gmq-live", e => {
  set(live, e.detail ? "● live" : "○ lost")
  live.classList.toggle("off", !e.detail)
})

function switchTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
  document.documentElement.dataset.theme = dark ? "light" : "dark"
  try { localStorage.setItem("gmq-theme", document.documentElement.dataset.theme) } catch { /* kept nowhere */ }
  dispatchEvent(new Event("gmq-theme"))
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("gmq-theme")))

function top() {
  fill(document.getElementById("top"),
    h("a", { class: "brand", href: "#/", "aria-label": "GMQ, overview" }, h("img", { src: "assets/icon.svg", alt: "", width: "16", height: "16" }), "GMQ"),
    h("nav", { "aria-label": "Pages" }, pages.filter(([p]) => (p !== "users" || who.sees_users) && (p !== "cluster" || who.sees_server)).map(([p, name]) => h("a", { href: "#/" + p, "data-page": p, text: name }))),
    h("span", { class: "room" }), live,
    h("button", { class: "plain", type: "button", onclick: keys, "aria-label": "Keyboard shortcuts", title: "Keyboard shortcuts (?)", text: "?" }),
    h("button", { class: "plain", type: "button", id: "theme", onclick: switchTheme, "aria-label": "Light or dark", title: "Light or dark (d)", text: "◐" }),
    who.name && h("span", { class: "who" }, h("span", { class: "wide", text: who.name }),
      h("button", { class: "plain", type: "button", onclick: async () => { await api.logout(); location.reload() }, text: "Log out" })))
}

const shortcuts = [["g o, g q, g t, g c, g u", "go to the overview, queues, topics, cluster, users"], ["/", "search"], ["j, k", "next and previous row"],
  ["Enter", "open the row"], ["p", "publish a test message, on a queue's page"], ["d", "light or dark"], ["Esc", "close a dialog"], ["?", "this list"]]

function keys() {
  open("Keyboard shortcuts", () => h("dl", { class: "pairs" }, shortcuts.map(([k, what]) => [h("dt", {}, k.split(", ").map((one, i) => [i > 0 && " ", h("kbd", { text: one })])), h("dd", { text: what })])))
}

let going = false
function pressed(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || !who?.logged_in || document.querySelector("dialog[open]")) return
  if (e.target.closest("input, textarea, select")) {
    if (e.key === "Escape") e.target.blur()
    return
  }
  const went = going
  going = false
  if (went) {
    const page = pages.find(([, , key]) => key === e.key)
    if (page) location.hash = "#/" + page[0]
    return
  }
  switch (e.key) {
    case "g": going = true; return
    case "?": keys(); break
    case "d": switchTheme(); break
    case "/": document.querySelector("main input[type=search]")?.focus(); break
    case "j": case "k": step(e.key === "j" ? 1 : -1); break
    case "p": document.getElementById("publish")?.click(); break
    default: return
  }
  e.preventDefault()
}

// step moves the focus between rows that lead somewhere.
function step(by) {
  const rows = [...document.querySelectorAll("main tbody tr")].map(r => r.querySelector("a, button")).filter(Boolean)
  if (!rows.length) return
  const at = rows.findIndex(r => r.closest("tr").contains(document.activeElement))
  rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1)].focus()
}

// ask who somebody is.
function login(because) {
  leave?.()
  leave = null
  fill(document.getElementById("top"), h("span", { class: "brand" }, h("img", { src: "assets/icon.svg", alt: "", width: "16", height: "16" }), "GMQ"))
  const user = h("input", { autocomplete: "username", required: true, autofocus: true, spellcheck: "false", autocapitalize: "off" })
  const password = h("input", { type: "password", autocomplete: "current-password" })
  const token = h("input", { type: "password", autocomplete: "off" })
  const error = h("p", { class: "error", role: "alert", text: because ?? "" })
  const byToken = h("input", { type: "checkbox", id: "by-token" })
  const forUser = h("div", {}, field("User", user), field("Password", password))
  const forToken = h("div", { hidden: true }, field("Token", token))
  byToken.addEventListener("change", () => {
    show(forUser, !byToken.checked)
    show(forToken, byToken.checked)
    user.required = !byToken.checked
  })
  const submit = async e => {
    e.preventDefault()
    try {
      await api.login(byToken.checked ? { token: token.value } : { user: user.value, password: password.value })
      start()
    } catch (refused) {
      error.textContent = refused.message
      password.value = token.value = ""
    }
  }
  fill(main, h("form", { class: "login panel", onsubmit: submit }, h("h1", { text: "Log in" }), forUser, forToken,
    h("label", { class: "check", for: "by-token" }, byToken, " with a token"), error, h("div", { class: "buttons" }, h("button", { class: "primary", type: "submit", text: "Log in" }))))
  user.focus()
}

async function start() {
  try {
    who = await api.me()
  } catch (failed) {
    fill(main, h("p", { class: "empty", text: failed.message }))
    return
  }
  if (!who.logged_in) {
    login(who.because)
    return
  }
  top()
  route()
}

addEventListener("hashchange", () => { if (who?.logged_in) route() })
addEventListener("keydown", pressed)
addEventListener("gmq-login", () => {
  if (who?.logged_in) {
    who.logged_in = false
    login("The login is over. Log in again.")
  }
})
start()
