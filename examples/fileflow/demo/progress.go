package main

import (
	"fmt"
	"os"
)

// A progress is one line on a terminal, and nothing in a pipe.
type progress struct {
	on    bool
	total int
	text  string // what is going on
	s, a  int    // files sent, analysed
}

func newProgress(total int) *progress {
	info, err := os.Stderr.Stat()
	return &progress{on: err == nil && info.Mode()&os.ModeCharDevice != 0, total: total}
}

func (p *progress) say(text string) { p.text = text; p.draw() }
func (p *progress) sent(n int)      { p.s = n; p.draw() }
func (p *progress) analysed(n int)  { p.a = n; p.draw() }

func (p *progress) draw() {
	if !p.on {
		return
	}
	fmt.Fprintf(os.Stderr, "\r\x1b[Ksent %d of %d", p.s, p.total)
	if p.a > 0 {
		fmt.Fprintf(os.Stderr, ", analysed %d", p.a)
	}
	fmt.Fprintf(os.Stderr, ": %s", p.text)
}

func (p *progress) end() {
	if p.on {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
