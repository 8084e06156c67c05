package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// slackBytes is about how much garbage may lie about: the collector's own rule, as much as what is alive, is too little for a
// server that holds next to nothing and far too much for one that holds a deep backlog.
const slackBytes = 16 << 20

const (
	leastPercent = 15 // or a large heap would be gone through all the time
	mostPercent  = 400
)

// paceGarbage keeps the garbage at about slackBytes, unless GOGC says otherwise. It looks after each collection.
func paceGarbage() {
	if os.Getenv("GOGC") != "" {
		return
	}
	p := &pacer{live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	p.look()
}

// A pacer belongs to the one who looks: paceGarbage, then after each collection the one cleanup that there is.
type pacer struct {
	live    []metrics.Sample
	percent int
}

func (p *pacer) look() {
	metrics.Read(p.live)
	live := int64(1)
	if v := p.live[0].Value; v.Kind() == metrics.KindUint64 {
		live = max(1, int64(v.Uint64()))
	}
	percent := int(min(mostPercent, max(leastPercent, slackBytes*100/live)))
	if percent < p.percent*9/10 || percent > p.percent*11/10 {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
	runtime.AddCleanup(new(mark), (*pacer).look, p) // garbage at once: the next collection finds it
}

// A mark is not so small that it would share its place with others.
type mark [32]byte
