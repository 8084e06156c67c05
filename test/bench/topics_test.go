package bench_test

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
)

// BenchmarkPatterns publishes to a topic that ten queues are bound to, in a server with those ten patterns and in one
// with 10,000 in turn, and reports the medians and their ratio.
func BenchmarkPatterns(b *testing.B) {
	servers := map[int]string{}
	for _, patterns := range []int{10, 10_000} {
		s := harness.Start(b, "queue_defaults: {storage: memory}\n")
		servers[patterns] = s.Addr
		c := s.Dial(b)
		for i := range 10 {
			c.OK(`{"op":"queue.create","queue":"q%d","max_messages":100,"overflow":"drop_oldest"}`, i)
			c.OK(`{"op":"queue.bind","queue":"q%d","topic":"files.*.pdf"}`, i)
			c.OK(`{"op":"queue.create","queue":"other%d"}`, i)
		}
		for i := range patterns - 10 {
			c.OK(`{"op":"queue.bind","queue":"other%d","topic":"files.%d.*"}`, i%10, i)
		}
	}
	rates := map[int][]float64{}
	for b.Loop() {
		for range rounds {
			for patterns, addr := range servers {
				rates[patterns] = append(rates[patterns], publishTopic(b, addr))
			}
		}
	}
	few, many := median(rates[10]), median(rates[10_000])
	b.ReportMetric(few, "10-patterns-msgs/s")
	b.ReportMetric(many, "10000-patterns-msgs/s")
	b.ReportMetric(many/few, "10000/10")
	b.ReportMetric(0, "ns/op") // of no meaning here
}

// publishTopic gives how many messages a second are confirmed.
func publishTopic(b *testing.B, addr string) float64 {
	conn := dial(b, addr)
	defer conn.Close()
	line := fmt.Appendf(nil, `{"op":"publish","topic":"files.eu.pdf","body":"%s"}`+"\n", strings.Repeat("x", bodySize))
	const all, window = 20_000, 200
	r := bufio.NewReaderSize(conn, 256<<10)
	started := time.Now()
	for sent := 0; sent < all; sent += window {
		if _, err := conn.Write(bytes.Repeat(line, window)); err != nil {
			b.Fatal(err)
		}
		for range window {
			if reply, err := r.ReadString('\n'); err != nil || !strings.Contains(reply, `"queues":10`) {
				b.Fatal(reply, err)
			}
		}
	}
	return all / time.Since(started).Seconds()
}
