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
	lines [][]byte // a ring, each of them used again
	n     int
	trace io.Writer // gets every line; nil: nobody does
}

func newHistory() *History { return &History{sum: fnv.New64a(), lines: make([][]byte, tailLines)} }

// note enters what happened to whom.
func (w *World) note(who, format string, args ...any) {
	h := w.log
	line := fmt.Appendf(h.lines[h.n%tailLines][:0], "%12s %-8s ", w.now.Round(time.Microsecond), who)
	line = fmt.Appendf(line, format, args...)
	h.sum.Write(line)
	h.lines[h.n%tailLines] = line
	h.n++
	if h.trace != nil {
		fmt.Fprintf(h.trace, "%s\n", line)
	}
}

// tail is the latest of what happened, each line cut to what can be read.
func (h *History) tail(n int) string {
	var b strings.Builder
	for i := max(0, h.n-min(n, tailLines)); i < h.n; i++ {
		line := h.lines[i%tailLines]
		more := ""
		if len(line) > 240 {
			line, more = line[:240], "…"
		}
		fmt.Fprintf(&b, "%s%s\n", line, more)
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
