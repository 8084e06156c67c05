package broker

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// TestDirect: what a session sends at once and what its writer sends is one stream, whatever the socket takes.
func TestDirect(t *testing.T) {
	for _, takes := range []int{0, 1, 7, 1 << 20} {
		t.Run(fmt.Sprint(takes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				defer r.close()
				p := r.peer()
				var got bytes.Buffer // only one may send at a time
				direct, over := 0, make(chan struct{})
				p.s.Direct(func(b []byte) int {
					n := min(len(b), takes)
					got.Write(b[:n])
					direct += n
					return n
				})
				go func() {
					defer close(over)
					out, ok := p.s.Outgoing(nil)
					for ; ok; out, ok = p.s.Outgoing(out[:0]) {
						for _, b := range Bytes(nil, out) {
							got.Write(b)
						}
						p.s.Sent(out)
					}
				}()
				const n = 200
				for i := range n {
					p.send(fmt.Sprintf(`{"op":"publish","queue":"q","id":%d,"body":1}`, i))
				}
				p.s.Close()
				<-over
				lines := strings.Split(strings.TrimSpace(got.String()), "\n")
				if len(lines) != n {
					t.Fatalf("%d lines, want %d", len(lines), n)
				}
				for i, l := range lines {
					if want := fmt.Sprintf(`{"id":%d,"ok":true,"seq":%d,`, i, i+1); !strings.HasPrefix(l, want) {
						t.Fatalf("line %d: %s", i, l)
					}
				}
				if (direct > 0) != (takes > 0) {
					t.Errorf("%d bytes were sent at once", direct)
				}
				if left := p.s.pending.Load(); left != 0 {
					t.Errorf("%d bytes are still counted as pending", left)
				}
			})
		})
	}
}

// TestManySessionsCollect: where many are busy a reader leaves its requests to the shard's goroutine.
func TestManySessionsCollect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		var peers []*peer
		for range 2 * fewSessions {
			peers = append(peers, r.peer())
		}
		direct := make([]int, len(peers))
		round := func(peers []*peer) {
			for _, p := range peers {
				p.send(`{"op":"publish","queue":"q","body":1}`)
				p.take()
			}
		}
		for i, p := range peers {
			p.s.Direct(func(b []byte) int { direct[i]++; return len(b) })
		}
		round(peers)
		clear(direct)
		round(peers)
		round(peers)
		for i, n := range direct {
			if n != 0 {
				t.Errorf("session %d of many has sent %d times at once", i, n)
			}
		}
		round(peers[:2])
		clear(direct)
		round(peers[:2])
		if direct[0] != 1 || direct[1] != 1 {
			t.Errorf("two busy sessions have sent %d and %d times at once", direct[0], direct[1])
		}
	})
}

// TestTurnsWhileHeld: what comes up while a reader has the baton is answered by the same reader, up to a number of turns; then the shard's goroutine
// goes on.
func TestTurnsWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		p, q := r.peer(), r.peer()
		left, direct := 0, 0
		answered := func(b []byte) int {
			direct++
			if left--; left >= 0 { // in the middle of a turn: somebody else's request comes
				q.send(`{"op":"publish","queue":"q","body":1}`)
			}
			return len(b)
		}
		p.s.Direct(answered)
		q.s.Direct(answered)
		for more := range 2 * driveTurns {
			left, direct = more, 0
			p.send(`{"op":"publish","queue":"q","body":1}`)
			rest := q.take()
			want := min(1+more, driveTurns)
			if direct != want || len(rest) != min(1, 1+more-want) {
				t.Errorf("%d requests that come one behind the other: %d answered by the reader, %d by the writer; want %d", 1+more, direct, len(rest), want)
			}
		}
	})
}
