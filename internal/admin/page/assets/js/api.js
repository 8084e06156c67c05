// Talking to the server: JSON under api/, and the same live as server-sent events.

// A Refusal is an error that the server has answered with.
export class Refusal extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

async function answer(response) {
  let is
  try { is = await response.json() } catch { throw new Refusal("internal", `the server answered ${response.status} and nothing that can be read`) }
  if (is.ok === false || !response.ok) {
    if (response.status === 401) dispatchEvent(new Event("gmq-login"))
    throw new Refusal(is.error?.code ?? "internal", is.error?.message ?? String(response.status))
  }
  return is
}

// path puts names and a query into a path.
export function path(parts, query) {
  const q = new URLSearchParams(Object.entries(query ?? {}).filter(([, v]) => v !== "" && v !== undefined && v !== null && v !== false))
  return "api/" + parts.map(encodeURIComponent).join("/") + (String(q) && "?" + q)
}

export async function get(where, signal) {
  return answer(await fetch(where, { signal }))
}

async function post(where, what) {
  return answer(await fetch(where, { method: "POST", headers: { "Content-Type": "application/json" }, body: typeof what === "string" ? what : JSON.stringify(what) }))
}

// ask carries out one request of the protocol; what is an object, or a text that is one.
export const ask = what => post("api/request", what)
export const login = what => post("api/login", what)
export const logout = () => post("api/logout", {})
export const me = () => get("api/me")

// all asks for a list again and again until it is at its end.
export async function all(request, list, name) {
  const whole = []
  let after
  for (;;) {
    const got = (await ask({ ...request, after, limit: 1000 }))[list]
    whole.push(...got)
    if (got.length === 0 || whole.length >= 20000) return whole
    after = got.at(-1)[name]
  }
}

// watch calls tell with what the server says of a path now, and from then on every second; failed where it refuses. While nobody can see
// the page it asks for nothing. It returns what ends it.
export function watch(where, tell, failed) {
  let source = null, over = false
  const close = () => { source?.close(); source = null }
  const open = () => {
    if (over || source || document.hidden) return
    source = new EventSource(where)
    source.onmessage = e => { dispatchEvent(new CustomEvent("gmq-live", { detail: true })); tell(JSON.parse(e.data)) }
    source.onerror = () => {
      dispatchEvent(new CustomEvent("gmq-live", { detail: false }))
      if (source?.readyState !== EventSource.CLOSED) return // it tries again by itself
      close()
      get(where).then(is => {
        if (over) return
        tell(is)
        setTimeout(open, 2000)
      }, e => {
        if (over) return // where the login is over, another page is there by now
        if (e instanceof Refusal) failed(e)
        else setTimeout(open, 2000)
      })
    }
  }
  const look = () => document.hidden ? close() : open()
  document.addEventListener("visibilitychange", look)
  open()
  return () => { over = true; close(); document.removeEventListener("visibilitychange", look) }
}
