package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// slackBytes is about how much garbage may lie about at least: the collector's own rule, as much as what is alive, is too little for a
// server that holds next to nothing and far too much for one that holds a deep backlog.
const slackBytes = 16 << 20

// slackScanned is how many times as much as what may hold pointers the garbage may be, up to half of what is alive. A collection costs what there is
// to look through: that is little of a backlog, and much with thousands of connections.
const slackScanned = 2

const (
	leastPercent = 15 // or a large heap would be gone through all the time
	mostPercent  = 400
)

// paceGarbage keeps the garbage at what garbagePercent says, unless GOGC says otherwise. It looks after each collection.
func paceGarbage() {
	if os.Getenv("GOGC") != "" {
		return
	}
	p := &pacer{heap: []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/heap:bytes"}}}
	p.look()
}

// A pacer belongs to the one who looks: paceGarbage, then after each collection the one cleanup that there is.
type pacer struct {
	heap    []metrics.Sample
	percent int
}

func (p *pacer) look() {
	metrics.Read(p.heap)
	var bytes [2]int64
	for i := range bytes {
		if v := p.heap[i].Value; v.Kind() == metrics.KindUint64 {
			bytes[i] = int64(v.Uint64())
		}
	}
	percent := garbagePercent(bytes[0], bytes[1])
	if percent < p.percent*9/10 || percent > p.percent*11/10 {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
	runtime.AddCleanup(new(mark), (*pacer).look, p) // garbage at once: the next collection finds it
}

// A mark is not so small that it would share its place with others.
type mark [32]byte

// garbagePercent is how much garbage there may be, in percent of the live bytes, of which so many are to be looked through.
func garbagePercent(live, scanned int64) int {
	live = max(1, live)
	slack := max(slackBytes, min(slackScanned*scanned, live/2))
	return int(min(mostPercent, max(leastPercent, slack*100/live)))
}
