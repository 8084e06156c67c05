package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/wire"
)

const (
	bold    = "\x1b[1m"
	reverse = "\x1b[7m"
	plainly = "\x1b[0m"
)

// view is the screen, a line each, as many as its height.
func (m *topModel) view(width, height int) []string {
	lines := []string{m.title(width), m.total(), ""}
	foot := "q quit  ↑↓ select  Enter one queue  / prefix  R reverse  n r l d i a o c sort by  ? help"
	switch {
	case m.help:
		lines = append(lines, topHelp...)
		foot = "any key goes back"
	case m.detail != "":
		lines = append(lines, m.scrolled(m.detailLines(width), height)...)
		foot = "q quit  ↑↓ scroll  Esc back"
	default:
		lines = append(lines, m.list(width, height)...)
	}
	if m.typing {
		foot = "queues whose names begin with: " + m.prefix + "_   Enter to go on"
	}
	lines = lines[:min(len(lines), max(height-1, 1))]
	for len(lines) < height-1 {
		lines = append(lines, "")
	}
	return append(lines, foot)
}

var topHelp = []string{
	"Keys", "",
	"  ↑ ↓ j k, PageUp, PageDown   select a queue",
	"  Enter, Esc                  one queue with its messages, and back",
	"  /                           only queues whose names begin so",
	"  n r l d i a o c             sort by name, ready, leased, delayed, in, acked, oldest, consumers",
	"  the same again, or R        the other way round",
	"  q                           quit", "",
	"States", "",
	"  paused                      it delivers nothing (gmq queue resume)",
	"  unread                      messages wait, and nobody has subscribed",
	"  dead                        dead letters are in it (gmq peek, gmq queue redrive)", "",
	"IN and ACKED are messages a second. They are known of the 500 queues with the most messages.",
}

func (m *topModel) title(width int) string {
	left := fmt.Sprintf("gmq top  %s  %s %s", m.server, m.last.hello.Node, m.last.hello.Version)
	if m.prefix != "" {
		left += "  " + m.prefix + "*"
	}
	right := "asking…"
	switch {
	case m.last.err != nil:
		right = "NO ANSWER: " + shown(m.last.err.Error(), 60)
	case !m.last.at.IsZero():
		right = m.last.at.Format("15:04:05")
	}
	pad := max(1, width-utf8.RuneCountInString(left)-utf8.RuneCountInString(right))
	return bold + left + strings.Repeat(" ", pad) + right + plainly
}

// list is the table of queues, the selected one in sight.
func (m *topModel) list(width, height int) []string {
	room := max(height-5, 1)
	at := m.at()
	if at < m.first {
		m.first = at
	}
	if at >= m.first+room {
		m.first = at - room + 1
	}
	rows := m.table()
	for i, c := range topColumns {
		if c.name == m.sort {
			rows[0][i] += map[bool]string{false: "▼", true: "▲"}[m.upside]
		}
	}
	end := min(m.first+room, len(m.rows))
	seen := append(rows[:1:1], rows[m.first+1:end+1]...)
	widths, all := topWidths(seen, 8) // so that columns stay where they are while numbers grow
	if all > width {
		widths, all = topWidths(seen, 5)
		widths[0] = max(widths[0]-max(all-width, 0), 12)
	}
	lines := []string{bold + "  " + topLine(rows[0], widths) + plainly}
	for i := m.first; i < end; i++ {
		line := topLine(rows[i+1], widths)
		if i == at {
			lines = append(lines, reverse+"› "+line+plainly)
		} else {
			lines = append(lines, "  "+line)
		}
	}
	if len(m.rows) == 0 && m.last.err == nil && !m.last.at.IsZero() {
		lines = append(lines, "", "  There are no queues here.")
	}
	return lines
}

// topWidths are how wide the columns are, each no less than least and names no less than 20, and how wide they are together, with the mark before them.
func topWidths(rows [][]string, least int) (widths []int, all int) {
	widths = make([]int, len(topColumns))
	for i := range widths {
		widths[i] = least
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	widths[0] = min(max(widths[0], 20), 60)
	for _, w := range widths {
		all += w + 2
	}
	return widths, all
}

// topLine sets a row in columns: names to the left, numbers to the right.
func topLine(row []string, widths []int) string {
	var b strings.Builder
	for i, cell := range row {
		if i == 0 {
			cell = shown(cell, widths[0]-1)
		}
		pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
		if i > 0 {
			b.WriteString("  ")
		}
		if i < 2 {
			b.WriteString(cell + pad)
		} else {
			b.WriteString(pad + cell)
		}
	}
	return b.String()
}

// scrolled are the lines from the first that is to be seen.
func (m *topModel) scrolled(lines []string, height int) []string {
	m.first = min(m.first, max(0, len(lines)-max(height-4, 1)))
	return lines[m.first:]
}

// detailLines are one queue and its messages.
func (m *topModel) detailLines(width int) []string {
	lines := []string{bold + m.detail + plainly, ""}
	var q *topRow
	for _, r := range m.rows {
		if r.Queue == m.detail {
			q = r
		}
	}
	if q == nil {
		return append(lines, "  There is no such queue any more.")
	}
	if q.info == nil {
		return append(lines, "  Its settings and counts are not known: you may not see them, or they are on their way.")
	}
	n := &q.info.Counts
	lines = append(lines,
		fmt.Sprintf("  ready %s   leased %s   delayed %s   oldest %s   consumers %s   in %s/s   acked %s/s   %s", grouped(q.Ready), grouped(q.Leased), grouped(q.Delayed), topOldest(q), topConsumers(q), rateText(q, q.in), rateText(q, q.acked), topState(q)),
		fmt.Sprintf("  published %s   acked %s   dead %s   expired %s   dropped %s   cancelled %s   purged %s   redriven %s", grouped(n.Published), grouped(n.Acked), grouped(n.Dead), grouped(n.Expired), grouped(n.Dropped), grouped(n.Cancelled), grouped(n.Purged), grouped(n.Redriven)))
	var settings []string
	for _, row := range settingRows(&q.info.Settings) {
		settings = append(settings, strings.TrimSpace(row[0])+" "+row[1])
	}
	for len(settings) > 0 {
		k := min(4, len(settings))
		lines = append(lines, "  "+strings.Join(settings[:k], "   "))
		settings = settings[k:]
	}
	if len(q.info.Bindings) > 0 {
		lines = append(lines, "  bound to "+strings.Join(q.info.Bindings, "  "))
	}
	return append(append(lines, ""), m.messageLines()...)
}

func (m *topModel) messageLines() []string {
	d := m.last.detail
	switch {
	case d == nil || m.last.about.detail != m.detail:
		return []string{"  asking…"}
	case d.err != nil:
		return []string{"  " + shown(d.err.Error(), 200)}
	case len(d.messages) == 0:
		return []string{"  No messages."}
	}
	lines := []string{bold + fmt.Sprintf("  %8s  %-8s  %-9s  %5s  %s", "SEQ", "STATE", "WAITS", "TRIES", "BODY") + plainly}
	for _, p := range d.messages {
		what := shown(string(p.Body), 300)
		if why := p.Headers[wire.HeaderDeadReason]; why != "" {
			what = "[" + shown(why, 80) + "] " + what
		}
		wait := m.last.at.Sub(p.Published)
		if !p.Until.IsZero() {
			wait = p.Until.Sub(m.last.at)
		}
		lines = append(lines, fmt.Sprintf("  %8d  %-8s  %-9s  %5d  %s", p.Seq, p.State, config.Duration(wait.Truncate(time.Second)).String(), p.Attempts, what))
	}
	return lines
}
