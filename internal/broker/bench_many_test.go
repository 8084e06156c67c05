package broker

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// BenchmarkMany is BenchmarkThrough with the messages spread in turn over many queues, to which one consumer has subscribed: each ack is a line of
// its own. "alone" is one queue, and each ack a line of its own as well: what more queues cost is the difference from that.
func BenchmarkMany(b *testing.B) {
	for _, c := range []struct {
		name   string
		queues int
	}{{"alone", 1}, {"queues=16", 16}, {"queues=128", 128}, {"queues=1000", 1000}, {"queues=10000", 10_000}} {
		b.Run(c.name, func(b *testing.B) { benchMany(b, c.queues) })
	}
}

func benchMany(b *testing.B, queues int) {
	const window, step = 1000, 250
	budget := journal.NewBudget(1 << 30)
	br, err := Start(Options{Limits: Limits{MaxQueues: 20_000, MaxMessageBytes: 1 << 20, MaxInFlight: 1e6, AutoCreate: true,
		Defaults: queue.Settings{Storage: "memory", Lease: 30 * time.Second, MaxDeliveries: 3}},
		Fail: func(err error) { b.Error(err) },
		Storages: []Storage{{Name: "memory", Stored: "memory", Open: func(_ int, wake func()) journal.Journal {
			return journal.NewMemory(budget, wake)
		}}}})
	if err != nil {
		b.Fatal(err)
	}
	var lines, heads [][]byte
	var subscribe []byte
	body := bytes.Repeat([]byte{'b'}, 98)
	for i := range queues {
		name := fmt.Sprintf("bench-0123456789abcdef.%d", i)
		lines = append(lines, fmt.Appendf(nil, `{"op":"publish","queue":%q,"create":false,"id":1,"body":"%s"}`+"\n", name, body))
		heads = append(heads, fmt.Appendf(nil, `{"op":"ack","queue":%q,"seq":[`, name))
		subscribe = fmt.Appendf(subscribe, `{"op":"subscribe","queue":%q,"credit":1000}`+"\n", name)
	}
	consumer, publisher := br.NewSession("consumer"), br.NewSession("publisher")
	benchSend(b, consumer, wire.NewDecoder(1<<20), subscribe)
	for got := 0; got < queues; {
		out, _ := consumer.Outgoing(nil)
		for _, c := range out {
			got += bytes.Count(c.b, []byte{'\n'})
		}
		consumer.Sent(out)
	}
	b.ReportAllocs()
	consumed := make(chan struct{})
	go func() {
		defer close(consumed)
		benchConsumeEach(b, consumer, heads, b.N)
	}()
	b.ResetTimer()
	start := cpuTime()
	dec := wire.NewDecoder(1 << 20)
	var out []*chunk
	var some []byte
	for sent, confirmed := 0, 0; confirmed < b.N; {
		for sent < b.N && sent-confirmed+step <= window {
			some = some[:0]
			for range min(step, b.N-sent) {
				some = append(some, lines[sent%queues]...)
				sent++
			}
			benchSend(b, publisher, dec, some)
		}
		out, _ = publisher.Outgoing(out[:0])
		for _, c := range out {
			confirmed += bytes.Count(c.b, []byte{'\n'})
		}
		publisher.Sent(out)
	}
	<-consumed
	b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/msg")
	b.StopTimer()
	if err := br.Close(); err != nil {
		b.Fatal(err)
	}
}

// benchConsumeEach acks n messages, each with a request of its own.
func benchConsumeEach(b *testing.B, s *Session, heads [][]byte, n int) {
	dec := wire.NewDecoder(1 << 20)
	var out []*chunk
	var acks []byte
	for got := 0; got < n; {
		out, _ = s.Outgoing(out[:0])
		acks = acks[:0]
		for _, c := range out {
			for rest := c.b; len(rest) > 0; {
				i := bytes.IndexByte(rest, '\n')
				if k := bytes.Index(rest[:min(i, 120)], []byte(`"seq":`)); k > 0 {
					dot := bytes.IndexByte(rest, '.') + 1
					q := 0
					for ; rest[dot] != '"'; dot++ {
						q = q*10 + int(rest[dot]-'0')
					}
					seq := rest[k+6 : i]
					acks = append(append(append(acks, heads[q]...), seq[:bytes.IndexByte(seq, ',')]...), "]}\n"...)
					got++
				}
				rest = rest[i+1:]
			}
		}
		s.Sent(out)
		if len(acks) > 0 {
			benchSend(b, s, dec, acks)
		}
	}
}
