package bench_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// BenchmarkPlainAndTLS passes messages from one connection to another, without TLS and with it in turn, through
// queues in memory, where there is the least beside, and reports the medians and their ratio. The clients run on the same machine, so
// that what TLS costs them is in it too.
func BenchmarkPlainAndTLS(b *testing.B) {
	authority := harness.NewAuthority(b)
	s := harness.Start(b, "queue_defaults: {max_deliveries: 0}\n"+authority.Issue("server").TLSConfig(""))
	control := s.Dial(b)
	plain := func() net.Conn { return dial(b, s.Addr) }
	secure := func() net.Conn {
		c := authority.Client()
		c.DynamicRecordSizingDisabled = true
		return tls.Client(dial(b, s.Addr), c)
	}
	for _, storage := range []string{"memory", "file"} {
		b.Run(storage, func(b *testing.B) {
			var rates [2][]float64
			for b.Loop() {
				for range rounds {
					for i, connect := range []func() net.Conn{plain, secure} {
						queue := fmt.Sprintf("q%d.%d", i, len(rates[i]))
						control.OK(`{"op":"queue.create","queue":"%s","storage":"%s"}`, queue, storage)
						rates[i] = append(rates[i], pass(b, queue, connect))
						control.OK(`{"op":"queue.delete","queue":"%s"}`, queue)
					}
				}
			}
			without, with := median(rates[0]), median(rates[1])
			b.ReportMetric(without, "plain-msgs/s")
			b.ReportMetric(with, "tls-msgs/s")
			b.ReportMetric(100*(1-with/without), "%-lost")
			b.ReportMetric(0, "ns/op") // of no meaning here
		})
	}
}
