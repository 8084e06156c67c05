package loadgen

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// pageMessages is how many messages of a publisher a page of its ledger is about.
const pageMessages = 8192

type bitmap [pageMessages / 64]atomic.Uint64

// A page says what became of some messages.
type page struct {
	confirmed, refused bitmap
	delivered          []bitmap // by stream
}

// A ledger is what became of the messages of one publisher. The publisher adds pages before it sends what they are
// about; bits are set by whoever learns of it.
type ledger struct {
	streams int
	pages   atomic.Pointer[[]atomic.Pointer[page]]
	next    uint64 // messages below it have a page; the publisher's
}

func newLedger(streams int) *ledger {
	l := &ledger{streams: streams}
	l.pages.Store(&[]atomic.Pointer[page]{})
	return l
}

// reach makes room for all messages below n. Only the publisher calls it.
func (l *ledger) reach(n uint64) {
	for l.next < n {
		pages, i := *l.pages.Load(), int(l.next/pageMessages)
		if i == len(pages) {
			more := make([]atomic.Pointer[page], max(4, 2*len(pages)))
			for j := range pages {
				more[j].Store(pages[j].Load())
			}
			pages = more
			l.pages.Store(&more)
		}
		pages[i].Store(&page{delivered: make([]bitmap, l.streams)})
		l.next += pageMessages
	}
}

// page is nil for what was never sent.
func (l *ledger) page(n uint64) *page {
	pages := *l.pages.Load()
	if n/pageMessages >= uint64(len(pages)) {
		return nil
	}
	return pages[n/pageMessages].Load()
}

// set sets the bit of a message and reports whether it was set before.
func (b *bitmap) set(n uint64) bool {
	bit := uint64(1) << (n % 64)
	return b[n%pageMessages/64].Or(bit)&bit != 0
}

// confirm and refuse note the outcome of count messages from first on.
func (l *ledger) confirm(first, count uint64) {
	for n := first; n < first+count; n++ {
		l.page(n).confirmed.set(n)
	}
}

func (l *ledger) refuse(first, count uint64) {
	for n := first; n < first+count; n++ {
		l.page(n).refused.set(n)
	}
}

// deliver notes a delivery. again is true where the stream had the message before; known is false where nobody has
// published it.
func (l *ledger) deliver(stream int, n uint64) (again, known bool) {
	p := l.page(n)
	if p == nil {
		return false, false
	}
	return p.delivered[stream].set(n), true
}

// An account is what a ledger adds up to.
type account struct {
	confirmed, refused int64
	refusedDelivered   int64   // refused, and delivered nevertheless
	missing            []int64 // confirmed, and not delivered, by stream
}

func (l *ledger) addTo(a *account) {
	pages := *l.pages.Load()
	for i := range pages {
		p := pages[i].Load()
		if p == nil {
			return
		}
		for w := range p.confirmed {
			confirmed, refused := p.confirmed[w].Load(), p.refused[w].Load()
			a.confirmed += int64(bits.OnesCount64(confirmed))
			a.refused += int64(bits.OnesCount64(refused))
			anywhere := uint64(0)
			for s := range p.delivered {
				delivered := p.delivered[s][w].Load()
				anywhere |= delivered
				a.missing[s] += int64(bits.OnesCount64(confirmed &^ delivered))
			}
			a.refusedDelivered += int64(bits.OnesCount64(refused & anywhere))
		}
	}
}

// faultsKept is how many faults a report tells in words.
const faultsKept = 10

// faults are what went wrong with messages: how often, and the first in words.
type faults struct {
	twice, outOfOrder, unknown atomic.Int64

	mu    sync.Mutex // guards the following
	texts []string
}

func (f *faults) add(counter *atomic.Int64, format string, args ...any) {
	counter.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.texts) < faultsKept {
		f.texts = append(f.texts, fmt.Sprintf(format, args...))
	}
}
