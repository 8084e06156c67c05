// Who may do what.
import { h, fill, set, field, select } from "./dom.js"
import { ask, all, get } from "./api.js"
import * as f from "./format.js"
import { table } from "./table.js"
import { form, twice, note, open } from "./dialog.js"

export default function users(place, { who }) {
  if (!who.sees_users) {
    fill(place, h("p", { class: "empty", text: "Users and tokens are for those who have the right admin on everything (admin:>)." }))
    return
  }
  const search = h("input", { type: "search", placeholder: "Name or right…", "aria-label": "Search users and tokens", spellcheck: "false" })
  let people = [], tokens = []
  const rights = (r, cell) => { fill(cell, grants(r)) }
  const actions = (...buttons) => (r, cell) => { fill(cell, h("span", { class: "actions" }, buttons.map(([text, act]) => h("button", { type: "button", class: "small", onclick: () => act(r), text })))) }
  const userTable = table([
    { name: "User", class: "name", width: "c12", cell: r => r.user },
    { name: "Rights", cell: rights },
    { name: "Logs in by", narrow: false, width: "c10", cell: r => [r.password && "password", r.tokens && f.plural(r.tokens, "token")].filter(Boolean).join(", ") || "certificate" },
    { name: "Since", narrow: false, width: "c8", cell: r => f.clock(r.created).slice(0, 10) },
    { name: "", number: true, width: "c16", cell: actions(["Rights…", edit], ["Password…", password], ["Remove…", removeUser]) },
  ], { key: r => r.user, empty: "There are no users.", caption: "Users" })
  const tokenTable = table([
    { name: "Token", class: "name", width: "c12", cell: r => r.name },
    { name: "May", cell: (r, cell) => { fill(cell, r.user ? h("span", {}, "what ", h("b", { text: r.user }), " may") : grants(r)) } },
    { name: "Ends", narrow: false, width: "c10", cell: r => r.expires ? f.clock(r.expires).slice(0, 16) : "never" },
    { name: "Since", narrow: false, width: "c8", cell: r => f.clock(r.created).slice(0, 10) },
    { name: "", number: true, width: "c16", cell: actions(["Remove…", removeToken]) },
  ], { key: r => r.name, empty: "There are no tokens.", caption: "Tokens" })

  async function load() {
    try {
      people = await all({ op: "user.list" }, "users", "user")
      tokens = await all({ op: "token.list" }, "tokens", "name")
      draw()
    } catch (e) { note(e.message, true) }
  }
  function draw() {
    const part = search.value.trim().toLowerCase()
    const has = r => !part || JSON.stringify([r.user, r.name, r.allow, r.deny]).toLowerCase().includes(part)
    userTable.update(people.filter(has))
    tokenTable.update(tokens.filter(has))
  }
  search.addEventListener("input", draw)

  function addUser() {
    const name = input({ required: true, autofocus: true }), pass = input({ type: "password", autocomplete: "new-password" }), allow = list([]), deny = list([])
    form("New user", [field("Name", name), field("Password", pass, "Empty: he logs in by token or certificate only."), field("May", allow, grantHint), field("May not", deny)], "Add", async close => {
      await ask({ op: "user.add", user: name.value.trim(), password: pass.value || undefined, allow: lines(allow), deny: lines(deny) })
      close(); note(`${name.value} is there`); load()
    })
  }
  function edit(r) {
    const allow = list(r.allow), deny = list(r.deny)
    form(`Rights of ${r.user}`, [field("May", allow, grantHint), field("May not", deny, "This beats what is above. A change holds at once, also for open connections.")], "Save", async close => {
      const want = { allow: lines(allow), deny: lines(deny) }
      const revoke = [...r.allow.filter(g => !want.allow.includes(g)), ...r.deny.filter(g => !want.deny.includes(g))]
      await ask({ op: "user.grant", user: r.user, allow: want.allow, deny: want.deny, revoke })
      close(); note(`The rights of ${r.user} are changed`); load()
    })
  }
  function password(r) {
    const pass = input({ type: "password", autocomplete: "new-password", autofocus: true })
    form(`Password of ${r.user}`, field("New password", pass, "Empty: none any more. Connections that are open stay."), "Save", async close => {
      await ask({ op: "user.password", user: r.user, password: pass.value || undefined })
      close(); note(`${r.user} has ${pass.value ? "another" : "no"} password`); load()
    })
  }
  function removeUser(r) {
    twice("Remove a user", `This ends the connections of ${r.user}` + (r.tokens ? `, and his ${f.plural(r.tokens, "token")}.` : "."), r.user, "Remove", async () => { await ask({ op: "user.remove", user: r.user }); note(`${r.user} is removed`); load() })
  }
  function addToken() {
    const name = input({ required: true, autofocus: true }), user = input(), ttl = input({ placeholder: "8760h" }), allow = list([])
    form("New token", [field("Name", name), field("Of the user", user, "It may do what he may. Empty: it has rights of its own."), field("May", allow, grantHint), field("Ends after", ttl, "Empty: never.")], "Make", async close => {
      const rights = user.value.trim() ? {} : { allow: lines(allow) }
      const made = await ask({ op: "token.add", name: name.value.trim(), user: user.value.trim() || undefined, ttl: ttl.value.trim() || undefined, ...rights })
      close(); load()
      open("The token", () => [h("p", { class: "what", text: "It is told once and never again. Keep it where secrets are kept." }), h("pre", { class: "secret", text: made.token })])
    })
  }
  function removeToken(r) {
    twice("Remove a token", `Whoever logged in by ${r.name} is thrown out, and cannot log in by it again.`, r.name, "Remove", async () => { await ask({ op: "token.remove", name: r.name }); note(`${r.name} is removed`); load() })
  }
  fill(place, h("div", { class: "bar" }, h("h1", { text: "Users and rights" }), h("span", { class: "room" }), search, h("button", { type: "button", onclick: addUser, text: "New user…" }), h("button", { type: "button", onclick: addToken, text: "New token…" })),
    !who.required && h("p", { class: "warning", text: "! Nobody has to log in on this server (auth.required is off), so rights mean nothing yet." }),
    h("section", { class: "panel" }, h("h2", { text: "Users" }), userTable.element), h("section", { class: "panel" }, h("h2", { text: "Tokens" }), tokenTable.element),
    h("div", { class: "two" }, check(), audit()))
  load()
}

const grantHint = "One right a line: verb:pattern, such as publish:orders.*. Verbs are publish, consume, peek, manage, admin, and * for all."
const input = properties => h("input", { spellcheck: "false", autocapitalize: "off", ...properties })
const list = values => h("textarea", { rows: "4", spellcheck: "false", autocapitalize: "off", value: values.join("\n") })
const lines = area => area.value.split(/[\n,]/).map(s => s.trim()).filter(Boolean)

function grants(r) {
  return h("span", { class: "grants" }, r.allow.map(g => h("code", { text: g })), r.deny.map(g => h("code", { class: "deny", title: "denied", text: "✕ " + g })), r.allow.length + r.deny.length === 0 && h("span", { class: "muted", text: "nothing" }))
}

// check asks the server whether a user may do something, and why.
function check() {
  const user = input({ required: true }), name = input({ required: true, placeholder: "orders.eu" }), verb = select(["publish", "consume", "peek", "manage", "admin"], "publish", { "aria-label": "Verb" })
  const says = h("p", { class: "says", role: "status", text: "\u00a0" })
  return h("section", { class: "panel pad" }, h("h2", { text: "May somebody do something?" }), h("form", {
    class: "line", onsubmit: async e => {
      e.preventDefault()
      try {
        const is = await ask({ op: "auth.check", user: user.value.trim(), verb: verb.value, name: name.value.trim() })
        set(says, (is.allowed ? "✓ Yes: " : "✕ No: ") + is.because + ".")
      } catch (refused) { set(says, refused.message) }
    },
  }, field("User", user), field("Verb", verb), field("Queue or topic", name), h("button", { type: "submit", text: "Ask" })), says)
}

// audit says where it is written down who did what.
function audit() {
  const says = h("p", { class: "what", text: "\u00a0" })
  get("api/overview").then(o => {
    const to = o.server?.audit
    set(says, { undefined: "", off: "Audit records are off (log.audit: off): nothing is written down of who did what.", log: "Logins, refusals and changes are written into the server's log, as records with \"audit\":true." }[to] ?? `Logins, refusals and changes are written into ${to}, one JSON record each.`)
    if (o.server?.audit_write_failures) says.append(` ${f.count(o.server.audit_write_failures)} records could not be written.`)
  }, e => set(says, e.message))
  return h("section", { class: "panel pad" }, h("h2", { text: "Who did what?" }), says)
}
