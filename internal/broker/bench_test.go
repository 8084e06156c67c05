package broker

import (
	"bytes"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// BenchmarkThrough takes messages of 100 bytes from lines to lines: decoded, published, delivered, acked, in memory and without
// sockets. Besides the time there is the processor's, which a busy machine changes less.
func BenchmarkThrough(b *testing.B) {
	for _, window := range []int{100, 1000} {
		b.Run("window="+strconv.Itoa(window), func(b *testing.B) { benchThrough(b, window) })
	}
}

const benchLine = 16 // lines that come in with one read, for each 100 of the window

func benchThrough(b *testing.B, window int) {
	budget := journal.NewBudget(1 << 30)
	br, err := Start(Options{Limits: Limits{MaxQueues: 10, MaxMessageBytes: 1 << 20, MaxInFlight: 1e6, AutoCreate: true,
		Defaults: queue.Settings{Storage: "memory", Lease: 30 * time.Second, MaxDeliveries: 3}},
		Fail: func(err error) { b.Error(err) },
		Storages: []Storage{{Name: "memory", Stored: "memory", Open: func(_ int, wake func()) journal.Journal {
			return journal.NewMemory(budget, wake)
		}}}})
	if err != nil {
		b.Fatal(err)
	}
	consumed := make(chan struct{})
	consumer := br.NewSession("consumer")
	benchSend(b, consumer, wire.NewDecoder(1<<20), []byte(`{"op":"subscribe","queue":"q","credit":`+strconv.Itoa(window)+"}\n"))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	go func() {
		defer close(consumed)
		benchConsume(b, consumer, b.N)
	}()
	benchPublish(b, br.NewSession("publisher"), window)
	<-consumed
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/msg")
	b.StopTimer()
	if err := br.Close(); err != nil {
		b.Fatal(err)
	}
}

func benchSend(b *testing.B, s *Session, dec *wire.Decoder, lines []byte) {
	var r wire.Request
	for len(lines) > 0 {
		i := bytes.IndexByte(lines, '\n')
		if err := dec.Decode(lines[:i], &r); err != nil {
			b.Error(err)
			return
		}
		s.Intake.Handle(&r)
		lines = lines[i+1:]
	}
	s.Intake.Flush()
}

// benchPublish publishes b.N messages, at most a window of them unconfirmed.
func benchPublish(b *testing.B, s *Session, window int) {
	dec := wire.NewDecoder(1 << 20)
	line := `{"op":"publish","queue":"q","body":"` + strings.Repeat("b", 98) + `"}` + "\n"
	step := benchLine * window / 100
	lines := []byte(strings.Repeat(line, step))
	var out []*chunk
	for sent, confirmed := 0, 0; confirmed < b.N; {
		for sent < b.N && sent-confirmed+step <= window {
			n := min(step, b.N-sent)
			benchSend(b, s, dec, lines[:n*len(line)])
			sent += n
		}
		out, _ = s.Outgoing(out[:0])
		for _, c := range out {
			confirmed += bytes.Count(c.b, []byte{'\n'})
		}
		s.Sent(out)
	}
}

// benchConsume acks n messages, those that arrive together with one request.
func benchConsume(b *testing.B, s *Session, n int) {
	dec := wire.NewDecoder(1 << 20)
	var out []*chunk
	var ack []byte
	for got := 0; got < n; {
		out, _ = s.Outgoing(out[:0])
		ack = append(ack[:0], `{"op":"ack","quiet":true,"queue":"q","seq":[`...)
		empty := len(ack)
		for _, c := range out {
			for rest := c.b; len(rest) > 0; {
				i := bytes.IndexByte(rest, '\n')
				if k := bytes.Index(rest[:min(i, 80)], []byte(`"seq":`)); k > 0 {
					seq := rest[k+6 : i]
					ack = append(append(ack, seq[:bytes.IndexByte(seq, ',')]...), ',')
					got++
				}
				rest = rest[i+1:]
			}
		}
		s.Sent(out)
		if len(ack) > empty {
			ack[len(ack)-1] = ']'
			benchSend(b, s, dec, append(ack, "}\n"...))
		}
	}
}

// cpuTime is what this process has used of the processors.
func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
