// Lines over the last minutes. They differ by their strokes as well as by their colours, and the legend has their
// latest values.
import { h, set } from "./dom.js"

const span = 300 // seconds
const height = 150

const strokes = [[], [6, 3], [2, 2]]

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim()
}

// A History is what has been seen of some numbers since the page was opened; it outlives the chart that shows it.
export class History {
  constructor() { this.at = []; this.values = [] }
  push(at, values) {
    const t = new Date(at) / 1000
    if (this.at.length && t <= this.at.at(-1)) return
    if (this.at.length && t - this.at.at(-1) > 15) this.#add(this.at.at(-1) + 1, values.map(() => null)) // nobody looked meanwhile
    this.#add(t, values)
    while (this.at[0] < t - span) {
      this.at.shift()
      for (const v of this.values) v.shift()
    }
  }
  #add(t, values) {
    this.at.push(t)
    values.forEach((v, i) => (this.values[i] ??= []).push(v))
  }
}

// chart makes a chart of a history; names are those of its lines, format is for their values.
export function chart(title, names, history, format) {
  const latest = names.map(() => h("output", { text: "–" }))
  const legend = h("ul", { class: "legend" }, names.map((n, i) => h("li", {}, swatch(i), h("span", { text: n }), latest[i])))
  const place = h("div", { class: "plot", "aria-hidden": "true" })
  const element = h("figure", { class: "panel chart" }, h("figcaption", {}, h("h2", { text: title }), legend), place)
  let plot = null
  const draw = () => {
    const now = history.at.at(-1) ?? Date.now() / 1000
    plot.setData([history.at, ...names.map((_, i) => history.values[i] ?? [])], false)
    plot.setScale("x", { min: now - span, max: now })
  }
  const make = () => {
    plot?.destroy()
    plot = new uPlot(options(names, format, place.clientWidth), [[], ...names.map(() => [])], place)
    draw()
  }
  const sizes = new ResizeObserver(() => plot ? plot.setSize({ width: place.clientWidth, height }) : make())
  sizes.observe(place)
  addEventListener("gmq-theme", make)
  return {
    element,
    update() {
      names.forEach((_, i) => set(latest[i], format(history.values[i]?.at(-1))))
      if (plot) draw()
    },
    destroy() {
      sizes.disconnect()
      removeEventListener("gmq-theme", make)
      plot?.destroy()
    },
  }
}

function swatch(i) {
  const ns = "http://www.w3.org/2000/svg"
  const svg = document.createElementNS(ns, "svg")
  svg.setAttribute("viewBox", "0 0 20 4")
  svg.setAttribute("class", "swatch line" + (i + 1))
  svg.setAttribute("aria-hidden", "true")
  const line = document.createElementNS(ns, "line")
  for (const [k, v] of Object.entries({ x1: 0, x2: 20, y1: 2, y2: 2, "stroke-dasharray": strokes[i].join(" ") || "none" })) line.setAttribute(k, v)
  svg.append(line)
  return svg
}

function options(names, format, width) {
  const grid = { stroke: colour("--line"), width: 1 }
  const axis = { stroke: colour("--muted"), grid, ticks: { show: false }, font: "11px system-ui, sans-serif" }
  return {
    width, height, legend: { show: false }, cursor: { show: false }, padding: [6, 20, 0, 0],
    scales: { x: { time: true }, y: { range: (_, min, max) => [0, Math.max(max ?? 0, 1) * 1.1] } },
    axes: [
      { ...axis, size: 24, space: 70, values: (_, ticks) => ticks.map(t => new Date(t * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })), incrs: [60, 120, 300] },
      { ...axis, size: 58, space: 34, values: (_, ticks) => ticks.map(t => format(t)) },
    ],
    series: [{}, ...names.map((n, i) => ({ label: n, stroke: colour("--line" + (i + 1)), width: 1.5, dash: strokes[i], points: { show: false }, spanGaps: false }))],
  }
}
