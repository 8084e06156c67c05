// Light or dark, before anything is painted. What the switch says beats what the system prefers.
(() => {
  let chosen = null
  try { chosen = localStorage.getItem("gmq-theme") } catch { /* a browser that keeps nothing */ }
  if (chosen) document.documentElement.dataset.theme = chosen
})()
