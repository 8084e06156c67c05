package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/wire"
)

// A topRow is a queue with what has happened in it since the look before.
type topRow struct {
	topQueue
	rated     bool
	in, acked float64 // a second
}

// A topColumn is one of the table's. key sorts by it.
type topColumn struct {
	name, key string
	cell      func(r *topRow) string
	less      func(a, b *topRow) int // the one to be shown first; of numbers the larger one
}

func larger[N cmp.Ordered](of func(r *topRow) N) func(a, b *topRow) int {
	return func(a, b *topRow) int { return cmp.Compare(of(b), of(a)) }
}

func rateText(r *topRow, n float64) string {
	switch {
	case !r.rated:
		return "-"
	case n > 0 && n < 10:
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return grouped(int64(n + 0.5))
}

var topColumns = []topColumn{
	{"queue", "n", func(r *topRow) string { return r.Queue }, func(a, b *topRow) int { return cmp.Compare(a.Queue, b.Queue) }},
	{"state", "", topState, nil},
	{"ready", "r", func(r *topRow) string { return grouped(r.Ready) }, larger(func(r *topRow) uint64 { return r.Ready })},
	{"leased", "l", func(r *topRow) string { return grouped(r.Leased) }, larger(func(r *topRow) uint64 { return r.Leased })},
	{"delayed", "d", func(r *topRow) string { return grouped(r.Delayed) }, larger(func(r *topRow) uint64 { return r.Delayed })},
	{"in", "i", func(r *topRow) string { return rateText(r, r.in) }, larger(func(r *topRow) float64 { return r.in })},
	{"acked", "a", func(r *topRow) string { return rateText(r, r.acked) }, larger(func(r *topRow) float64 { return r.acked })},
	{"oldest", "o", topOldest, larger(func(r *topRow) time.Duration { return r.infoOr().OldestAge })},
	{"consumers", "c", topConsumers, larger(func(r *topRow) int { return r.infoOr().Consumers })},
}

func (q *topQueue) infoOr() *gmq.QueueInfo {
	if q.info == nil {
		return &gmq.QueueInfo{}
	}
	return q.info
}

// topState says what wants looking at.
func topState(r *topRow) string {
	switch {
	case r.infoOr().Paused:
		return "paused"
	case strings.HasSuffix(r.Queue, ".dlq") && r.depth() > 0:
		return "dead"
	case r.info != nil && r.Ready > 0 && r.info.Consumers == 0:
		return "unread"
	}
	return ""
}

func topOldest(r *topRow) string {
	if r.info == nil || r.info.OldestAge == 0 {
		return "-"
	}
	return config.Duration(r.info.OldestAge.Truncate(max(time.Second, r.info.OldestAge/100).Truncate(time.Second))).String()
}

func topConsumers(r *topRow) string {
	if r.info == nil {
		return "-"
	}
	return grouped(r.info.Consumers)
}

func topColumnNames() (names []string) {
	for _, c := range topColumns {
		if c.less != nil {
			names = append(names, c.name)
		}
	}
	return names
}

// A topModel is what the screen shows, and what keys do to it. It belongs to one goroutine.
type topModel struct {
	server string
	prefix string
	sort   string
	upside bool // the other way round

	last, before topLook
	rows         []*topRow
	selected     string // a queue
	first        int    // the row, or line, on top
	detail       string // the queue that is shown alone; "" where none is
	typing       bool   // of a prefix
	help, wants  bool
}

func newTopModel(server, sort, prefix string) *topModel {
	return &topModel{server: server, sort: sort, prefix: prefix}
}

func (m *topModel) question() topQuestion { return topQuestion{m.prefix, m.detail} }

// hurry is true once where what was asked is not what is to be shown.
func (m *topModel) hurry() bool {
	wants := m.wants
	m.wants = false
	return wants
}

// take takes over a look.
func (m *topModel) take(l topLook) {
	if l.err != nil {
		m.last.err = l.err
		return
	}
	m.before, m.last = m.last, l
	old := map[string]*gmq.QueueInfo{}
	for i := range m.before.queues {
		old[m.before.queues[i].Queue] = m.before.queues[i].info
	}
	seconds := l.at.Sub(m.before.at).Seconds()
	m.rows = m.rows[:0]
	for _, q := range l.queues {
		r := &topRow{topQueue: q}
		if was := old[q.Queue]; was != nil && q.info != nil && seconds > 0 {
			r.rated = true
			r.in, r.acked = perSecondOf(was.Counts.Published, q.info.Counts.Published, seconds), perSecondOf(was.Counts.Acked, q.info.Counts.Acked, seconds)
		}
		m.rows = append(m.rows, r)
	}
	m.order()
}

// perSecondOf is the rate of what was counted; a count that has fallen is that of another queue.
func perSecondOf(before, after uint64, seconds float64) float64 {
	if after < before {
		before = 0
	}
	return float64(after-before) / seconds
}

func (m *topModel) order() {
	i := slices.IndexFunc(topColumns, func(c topColumn) bool { return c.name == m.sort })
	less := topColumns[max(i, 0)].less
	slices.SortStableFunc(m.rows, func(a, b *topRow) int {
		by := less(a, b)
		if m.upside {
			by = -by
		}
		return cmp.Or(by, cmp.Compare(a.Queue, b.Queue))
	})
}

// at is the place of the selected queue; the first where it is gone, or none was.
func (m *topModel) at() int {
	return max(0, slices.IndexFunc(m.rows, func(r *topRow) bool { return r.Queue == m.selected }))
}

// key does what a key says. It is true where that is the end.
func (m *topModel) key(key string, height int) bool {
	switch {
	case key == "quit" || key == "q" && !m.typing:
		return true
	case m.typing:
		m.typed(key)
	case m.help:
		m.help = false
	case key == "?":
		m.help = true
	case key == "escape" && m.detail != "":
		m.detail, m.first = "", 0
	case m.detail != "":
		m.scroll(key, height, 1<<20)
	case key == "enter" && len(m.rows) > 0:
		m.detail, m.first, m.wants = m.rows[m.at()].Queue, 0, true
	case key == "/":
		m.typing = true
	case key == "R":
		m.upside = !m.upside
		m.order()
	default:
		m.sortOrMove(key, height)
	}
	return false
}

// typed takes a prefix, letter by letter.
func (m *topModel) typed(key string) {
	switch {
	case key == "enter" || key == "escape":
		m.typing = false
	case key == "backspace" && m.prefix != "":
		m.prefix = m.prefix[:len(m.prefix)-1]
	case len(key) == 1 && len(m.prefix) < wire.MaxName:
		m.prefix += key
	}
	m.wants, m.first = true, 0
}

func (m *topModel) sortOrMove(key string, height int) {
	for _, c := range topColumns {
		if c.key == key && c.less != nil {
			m.upside = m.sort == c.name && !m.upside
			m.sort, m.first = c.name, 0
			m.order()
			return
		}
	}
	if len(m.rows) == 0 {
		return
	}
	at := m.at()
	m.selected = m.rows[min(max(moved(key, at, height), 0), len(m.rows)-1)].Queue
}

func (m *topModel) scroll(key string, height, most int) {
	m.first = min(max(moved(key, m.first, height), 0), most)
}

// moved is where a key leads from a place.
func moved(key string, at, height int) int {
	page := max(height-6, 1)
	switch key {
	case "up", "k":
		return at - 1
	case "down", "j":
		return at + 1
	case "pageup":
		return at - page
	case "pagedown", " ":
		return at + page
	case "home":
		return 0
	case "end":
		return 1 << 20
	}
	return at
}

// table is all rows, for who has no screen.
func (m *topModel) table() [][]string {
	var head []string
	for _, c := range topColumns {
		head = append(head, strings.ToUpper(c.name))
	}
	rows := [][]string{head}
	for _, r := range m.rows {
		var row []string
		for _, c := range topColumns {
			row = append(row, c.cell(r))
		}
		rows = append(rows, row)
	}
	return rows
}

// fit cuts a line after so many characters; what controls the terminal does not count.
func fit(line string, width int) string {
	n := 0
	for i := 0; i < len(line); {
		if line[i] == 0x1b {
			end := strings.IndexByte(line[i:], 'm')
			if end < 0 {
				return line[:i] // it is none of ours
			}
			i += end + 1
			continue
		}
		if n == width {
			return line[:i]
		}
		_, size := utf8.DecodeRuneInString(line[i:])
		i += size
		n++
	}
	return line
}

// total is what stands on top of the screen.
func (m *topModel) total() string {
	var ready, leased, delayed uint64
	var in, acked float64
	for _, r := range m.rows {
		ready, leased, delayed, in, acked = ready+r.Ready, leased+r.Leased, delayed+r.Delayed, in+r.in, acked+r.acked
	}
	return fmt.Sprintf("%s   ready %s   leased %s   delayed %s   in %s/s   acked %s/s", plural(len(m.rows), "queue"), grouped(ready), grouped(leased), grouped(delayed), grouped(int64(in+0.5)), grouped(int64(acked+0.5)))
}
