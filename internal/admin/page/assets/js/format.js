// Numbers and times for people.

const whole = new Intl.NumberFormat("en")
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 })

export const none = "–"

// count writes a number in full, or short from a million on.
export function count(n) {
  if (n === undefined || n === null) return none
  if (n >= 1e10) return one.format(n / 1e9) + " G"
  if (n >= 1e7) return one.format(n / 1e6) + " M"
  return whole.format(n)
}

// rate writes how often in a second.
export function rate(n) {
  if (n === undefined || n === null) return none
  if (n === 0) return "0"
  if (n < 0.05) return "<0.1"
  return n < 100 ? one.format(n) : count(Math.round(n))
}

export function bytes(n) {
  if (n === undefined || n === null) return none
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  let i = 0
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++ }
  return (i === 0 ? whole.format(n) : one.format(n)) + " " + units[i]
}

// duration writes seconds with its two largest units.
export function duration(s) {
  if (s === undefined || s === null) return none
  if (s === 0) return none
  if (s < 1) return Math.max(1, Math.round(s * 1000)) + " ms"
  if (s < 60) return (s < 10 ? s.toFixed(1) : Math.floor(s)) + " s"
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(Math.floor(s % 60)).padStart(2, "0")} s`
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor(s % 3600 / 60)).padStart(2, "0")} min`
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`
}

// ago writes how long ago a time was, when how long there is until it.
export function ago(time) {
  const s = (Date.now() - new Date(time)) / 1000
  return s < 0 ? "in " + duration(-s) : duration(Math.max(s, 0.001)) + " ago"
}

// clock writes a time in full, in the browser's zone.
export function clock(time) {
  if (!time) return none
  const d = new Date(time)
  const two = n => String(n).padStart(2, "0")
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`
}

export function plural(n, what) {
  return count(n) + " " + what + (n === 1 ? "" : "s")
}
