package sim

import (
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"strings"
	"time"
)

// tailLines is how much of a history is kept to be read.
const tailLines = 400

// A History is what happened, in order: a sum of all of it, and the end of it in words.
type History struct {
	sum   hash.Hash64
	lines []string // a ring
	n     int
	trace io.Writer // gets every line; nil: nobody does
}

func newHistory() *History { return &History{sum: fnv.New64a(), lines: make([]string, tailLines)} }

// note enters what happened to whom.
func (w *World) note(who, format string, args ...any) {
	line := fmt.Sprintf("%12s %-8s ", w.now.Round(time.Microsecond), who) + fmt.Sprintf(format, args...)
	w.log.sum.Write([]byte(line))
	w.log.lines[w.log.n%tailLines] = line
	w.log.n++
	if w.log.trace != nil {
		io.WriteString(w.log.trace, line+"\n")
	}
}

// tail is the latest of what happened, each line cut to what can be read.
func (h *History) tail(n int) string {
	var b strings.Builder
	for i := max(0, h.n-min(n, tailLines)); i < h.n; i++ {
		line := h.lines[i%tailLines]
		if len(line) > 240 {
			line = line[:240] + "…"
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// wrong ends the world: a promise was broken.
func (w *World) wrong(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
		w.note("CHECK", "%s", w.failure)
	}
}
