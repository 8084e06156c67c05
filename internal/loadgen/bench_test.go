package loadgen

import (
	"testing"
	"time"

	"github.com/gmq/gmq/wire"
)

// What the generator itself does for a message, without its system calls: it is a part of whatever it measures where it
// shares the processors with the server.

func BenchmarkPublish(b *testing.B) {
	r := newRun(Options{Settings: Settings{Publishers: 1, Queues: 1, Window: 1000, Batch: 1, Size: 100, Ack: AckReceipt, Duration: time.Hour}})
	r.measuring.Store(&span{0, time.Hour})
	p := newPublisher(r, 0, nil)
	b.ReportAllocs()
	for b.Loop() {
		if p.buf = p.buf[:0]; !p.room() {
			b.Fatal("no room")
		}
		p.add(time.Millisecond)
		q, err := p.request(p.ids, nil)
		if err != nil {
			b.Fatal(err)
		}
		p.ledger.confirm(q.first, q.count)
		p.tally.count(r.span(), q.at, 2*time.Millisecond, 1)
		q.id.Store(0)
		p.onTheWay.Add(-1)
	}
}

func BenchmarkDeliver(b *testing.B) {
	r := newRun(Options{Settings: Settings{Publishers: 1, Consumers: 1, Queues: 1, Window: 1000, Batch: 1, Size: 100, Ack: AckReceipt, Duration: time.Hour}})
	r.measuring.Store(&span{0, time.Hour})
	c := &consumer{run: r, tally: r.deliveries.of(0), feeds: make([]feed, 2)}
	body := newBody(100, r.id, 0)
	line := wire.AppendDelivery(nil, &wire.Delivery{Pushed: true, Sub: 1, Queue: "q.1", Seq: 34567, Attempt: 1, Receipt: []byte("1.2a"), Published: 1767323045123456789, Body: body})
	at := len(line) - 1 - len(body)
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		r.ledgers[0].reach(n + 1)
		stamp(line[at:len(line)-1], n, time.Millisecond)
		d, ok := quickDelivery(line)
		if !ok {
			b.Fatal("not quick")
		}
		l, first, err := c.take(&d, line)
		if !first || err != nil {
			b.Fatal(first, err)
		}
		c.tally.count(r.span(), l.at, 2*time.Millisecond, 1)
		if c.acks = c.acks[:0]; n%200 == 0 {
			c.ackFeed(&c.feeds[1])
			c.touched = c.touched[:0]
		}
		n++
	}
}
