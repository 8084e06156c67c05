package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A stand is a relay in a test, and what it has heard.
type stand struct {
	*Relay
	mu    sync.Mutex
	lines map[uint64]*Line
	heard []string
	over  int
}

func (s *stand) meet(node uint64, l *Line) (func([]byte), func()) {
	s.mu.Lock()
	s.lines[node] = l
	s.mu.Unlock()
	return func(m []byte) {
			s.mu.Lock()
			s.heard = append(s.heard, string(m))
			s.mu.Unlock()
		}, func() {
			s.mu.Lock()
			s.over++
			s.mu.Unlock()
		}
}

func (s *stand) line(node uint64) *Line {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines[node]
}

// pair is two nodes of which the first makes a line to the second; cut breaks the connection that there is.
func pair() (caller, host *stand, cut func()) {
	caller, host = &stand{lines: map[uint64]*Line{}}, &stand{lines: map[uint64]*Line{}}
	var mu sync.Mutex
	var last net.Conn
	host.Relay = New(Options{Nodes: func() []uint64 { return nil }, Accept: host.meet})
	caller.Relay = New(Options{Nodes: func() []uint64 { return []uint64{2} }, Up: caller.meet, Dial: func(context.Context, uint64) (net.Conn, error) {
		here, there := net.Pipe()
		mu.Lock()
		last = there
		mu.Unlock()
		go host.Serve(there, 1)
		return here, nil
	}})
	return caller, host, func() {
		mu.Lock()
		defer mu.Unlock()
		last.Close()
	}
}

func TestMessagesComeWholeAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller, host, cut := pair()
		synctest.Wait()
		var want []string
		for i := range 1000 {
			head, body := fmt.Sprint(i, ":"), bytes.Repeat([]byte{'x'}, i*i%5000)
			caller.line(2).Send([]byte(head), body)
			want = append(want, head+string(body))
		}
		big := bytes.Repeat([]byte{'y'}, 3<<20)
		caller.line(2).Send(big, nil)
		want = append(want, string(big))
		host.line(1).Send(nil, []byte("back"))
		synctest.Wait()
		if len(host.heard) != len(want) {
			t.Fatalf("%d messages came, of %d", len(host.heard), len(want))
		}
		for i := range want {
			if host.heard[i] != want[i] {
				t.Fatalf("message %d is another", i)
			}
		}
		if len(caller.heard) != 1 || caller.heard[0] != "back" {
			t.Fatal(caller.heard)
		}
		before := caller.line(2)
		cut()
		<-time.After(time.Second) // virtual
		if caller.over != 1 || host.over != 1 {
			t.Fatalf("%d and %d lines are over", caller.over, host.over)
		}
		before.Send(nil, []byte("lost"))
		caller.line(2).Send(nil, []byte("again"))
		synctest.Wait()
		if got := host.heard[len(host.heard)-1]; got != "again" {
			t.Fatal(got)
		}
		caller.Close()
		host.Close()
	})
}

// TestSilence: a line stays while nothing is to be said, and is given up when the other end is gone without a word.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller, host, _ := pair()
		<-time.After(time.Minute) // virtual
		if caller.over+host.over != 0 {
			t.Fatal("an idle line was given up")
		}
		caller.Close()
		host.Close()

		mute := &stand{lines: map[uint64]*Line{}}
		mute.Relay = New(Options{Nodes: func() []uint64 { return nil }, Accept: mute.meet})
		here, there := net.Pipe()
		served := make(chan struct{})
		go func() { mute.Serve(there, 1); close(served) }()
		synctest.Wait()
		<-time.After(4 * time.Second) // virtual
		<-served
		here.Close()
		mute.Close()
	})
}

// TestOtherNodes: lines come and go with the nodes.
func TestOtherNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		nodes := []uint64{2}
		dialed := map[uint64]int{}
		r := New(Options{
			Nodes: func() []uint64 { mu.Lock(); defer mu.Unlock(); return nodes },
			Dial: func(_ context.Context, node uint64) (net.Conn, error) {
				mu.Lock()
				dialed[node]++
				mu.Unlock()
				return nil, errors.New("nobody is there")
			},
		})
		<-time.After(time.Second) // virtual
		mu.Lock()
		nodes = []uint64{3}
		mu.Unlock()
		r.Look()
		synctest.Wait()
		mu.Lock()
		two := dialed[2]
		mu.Unlock()
		<-time.After(time.Second) // virtual
		r.Close()
		if two < 5 || dialed[2] != two || dialed[3] < 5 {
			t.Errorf("dialed %v", dialed)
		}
	})
}

// TestSendAllocatesNothing in the steady state.
func TestSendAllocatesNothing(t *testing.T) {
	l := newLine(nil, &Options{QueueBytes: 1 << 30})
	head, body := []byte("head"), make([]byte, 1000)
	buf := make([]byte, 0, 1<<20)
	if n := testing.AllocsPerRun(1000, func() {
		l.out = buf[:0]
		l.Send(head, body)
	}); n > 0 {
		t.Errorf("%v allocations a message", n)
	}
}

// FuzzFrames: whatever comes, nothing is taken for a message that was not sent as one.
func FuzzFrames(f *testing.F) {
	sent := func(messages ...string) (b []byte) {
		for _, m := range messages {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(m)))
			b = binary.LittleEndian.AppendUint32(b, crc32.Checksum([]byte(m), castagnoli))
			b = append(b, m...)
		}
		return b
	}
	f.Add(sent("one", "", "two"), 3)
	f.Add(sent("one")[:9], 1)
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0}, 7)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		here, there := net.Pipe()
		go func() {
			for len(b) > 0 {
				n := min(max(step, 1), len(b))
				if _, err := here.Write(b[:n]); err != nil {
					break
				}
				b = b[n:]
			}
			here.Close()
		}()
		opt := Options{MaxMessage: 1 << 16}.withDefaults()
		l, total := newLine(there, &opt), 0
		err := l.read(func(m []byte) {
			if total += len(m); len(m) > 1<<16 {
				t.Errorf("a message of %d bytes", len(m))
			}
		})
		if err == nil {
			t.Error("the line never ends")
		}
		there.Close()
	})
}

// wrapped is a connection around another one, as TLS and the cluster's are.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

// TestWhatABrokenLineHasNotCarried: it does not arrive later: the other end is told that the line is broken, not that it is over.
func TestWhatABrokenLineHasNotCarried(t *testing.T) {
	for reason, want := range map[error]error{errors.New("nothing comes"): syscall.ECONNRESET, context.Canceled: nil} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		here, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		there, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		opt := Options{}.withDefaults()
		l := newLine(wrapped{wrapped{here}}, &opt)
		l.fail(reason)
		if _, err := io.Copy(io.Discard, there); !errors.Is(err, want) {
			t.Errorf("%v: the other end reads %v, not %v", reason, err, want)
		}
		_, _ = there.Close(), listener.Close()
	}
}
