//go:build unix

package soak_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/test/harness"
)

// storm opens thousands of connections at once, says something on most of them, and drops them all, some without a word.
func (r *round) storm() {
	const openers, each = 16, 200
	said := []string{"", "\n", `{"op":"ping"}` + "\n", `{"op":"pi`, "what is this\n", "\x16\x03\x01",
		fmt.Sprintf(`{"op":"subscribe","queue":"%s"}`+"\n", r.Main.Queue), fmt.Sprintf(`{"op":"receive","queue":"%s","wait":"1h"}`+"\n", r.bulk)}
	for range 1 + r.chance.IntN(3) {
		var opening, dropping sync.WaitGroup
		var opened atomic.Int64
		drop := make(chan struct{})
		for i := range openers {
			opening.Add(1)
			dropping.Go(func() {
				var all []net.Conn
				for k := range each {
					nc, err := net.DialTimeout("tcp", r.server.Addr, harness.Patience)
					if err != nil {
						continue // told by how many there are
					}
					io.WriteString(nc, said[(i+k)%len(said)]) // nobody minds whether it arrives
					all = append(all, nc)
				}
				opened.Add(int64(len(all)))
				opening.Done()
				<-drop
				for k, nc := range all {
					if k%2 == 0 {
						nc.(*net.TCPConn).SetLinger(0) // reset instead of an end
					}
					nc.Close()
				}
			})
		}
		opening.Wait()
		r.confirms(100, "it works amid a storm")
		close(drop)
		dropping.Wait()
		if n := opened.Load(); n < openers*each*9/10 {
			r.t.Errorf("of %d connections %d could be opened: the storm was not real", openers*each, n)
		}
		r.report.connections += int(opened.Load())
	}
}

// readers subscribe to everything, read nothing and go away.
func (r *round) readers() {
	var all []net.Conn
	for i := range 20 {
		nc, err := net.DialTimeout("tcp", r.server.Addr, harness.Patience)
		r.must(err)
		queue := r.Main.Queue
		if i%4 == 0 {
			queue = r.bulk
		}
		_, err = fmt.Fprintf(nc, `{"op":"subscribe","queue":"%s","credit":200}`+"\n", queue)
		r.must(err)
		all = append(all, nc)
	}
	r.confirms(1000, "it works beside those who do not read")
	<-time.After(time.Duration(r.chance.IntN(2000)) * time.Millisecond)
	for _, nc := range all {
		nc.Close()
	}
}
