package transport

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A station is a node's end, and what has come there.
type station struct {
	l    net.Listener
	t    *Transport
	addr string
	got  chan string
	lost chan uint64
	logs *logs
}

type logs struct {
	mu    sync.Mutex
	lines []string
	some  chan struct{}
}

func (l *logs) add(format string, args ...any) {
	l.mu.Lock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
	l.mu.Unlock()
	select {
	case l.some <- struct{}{}:
	default:
	}
}

// wait waits for a line that holds the text.
func (l *logs) wait(text string) {
	for {
		l.mu.Lock()
		for _, line := range l.lines {
			if strings.Contains(line, text) {
				l.mu.Unlock()
				return
			}
		}
		l.mu.Unlock()
		<-l.some
	}
}

// open is a node that listens, and believes what the others say that they are.
func open(t *testing.T, id uint64, addresses *sync.Map, change func(*Options)) *station {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	s := &station{l: l, addr: l.Addr().String(), got: make(chan string, 1000), lost: make(chan uint64, 1000), logs: &logs{some: make(chan struct{}, 1)}}
	addresses.Store(id, s.addr)
	opt := Options{
		RetryAfter: time.Millisecond, Logf: s.logs.add,
		Dial: func(ctx context.Context, node uint64) (net.Conn, error) {
			a, _ := addresses.Load(node)
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.(string))
			if err == nil {
				_, err = c.Write([]byte{byte(id)})
			}
			return c, err
		},
		Deliver:     func(from uint64, packet []byte) { s.got <- fmt.Sprintf("%d: %.20s (%d)", from, packet, len(packet)) },
		Unreachable: func(node uint64) { s.lost <- node },
	}
	if change != nil {
		change(&opt)
	}
	s.t = New(opt)
	go s.accept()
	t.Cleanup(s.close)
	return s
}

func (s *station) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		go func() {
			var who [1]byte
			if _, err := io.ReadFull(c, who[:]); err == nil {
				s.t.Serve(c, uint64(who[0]))
			}
		}()
	}
}

func (s *station) close() {
	_ = s.l.Close() // twice, maybe
	s.t.Close()
}

func TestPacketsArriveInOrder(t *testing.T) {
	addresses := &sync.Map{}
	one, two := open(t, 1, addresses, nil), open(t, 2, addresses, nil)
	for i := range 100 {
		one.t.Send(2, append(fmt.Appendf(nil, "packet %d", i), make([]byte, i*1000)...))
		two.t.Send(1, fmt.Appendf(nil, "answer %d", i))
	}
	for i := range 100 {
		if got := <-two.got; !strings.HasPrefix(got, fmt.Sprintf("1: packet %d", i)) {
			t.Fatalf("got %q as number %d", got, i)
		}
		if got, want := <-one.got, fmt.Sprintf("2: answer %d", i); !strings.HasPrefix(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// A node that comes back is reached again; what was sent meanwhile may be lost, and is said to be.
func TestNodeComesBack(t *testing.T) {
	addresses := &sync.Map{}
	one, two := open(t, 1, addresses, nil), open(t, 2, addresses, nil)
	one.t.Send(2, []byte("before"))
	<-two.got
	two.close()
	for len(one.lost) == 0 {
		one.t.Send(2, []byte("lost"))
		one.t.pause()
	}
	two = open(t, 2, addresses, nil)
	for len(two.got) == 0 {
		one.t.Send(2, []byte("after"))
		one.t.pause()
	}
	if got := <-two.got; !strings.HasPrefix(got, "1: after") && !strings.HasPrefix(got, "1: lost") {
		t.Errorf("got %q", got)
	}
}

// What is not whole ends the connection, and nothing of it is delivered.
func TestBadFrames(t *testing.T) {
	addresses := &sync.Map{}
	two := open(t, 2, addresses, func(o *Options) { o.MaxPacket = 1000 })
	frame := func(length int, sum uint32, packet string) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(length))
		return append(binary.LittleEndian.AppendUint32(b, sum), packet...)
	}
	for _, c := range []struct {
		name, says string
		frame      []byte
	}{
		{"checksum", "checksum is wrong", frame(4, 1, "abcd")},
		{"length", "at most 1000 are taken", frame(1001, 0, "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := must[net.Conn](t)(net.Dial("tcp", two.addr))
			good := "good"
			for _, b := range [][]byte{{1}, frame(len(good), crc32.Checksum([]byte(good), castagnoli), good), c.frame} {
				if _, err := conn.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			two.logs.wait(c.says)
			if got := <-two.got; !strings.HasPrefix(got, "1: good") {
				t.Errorf("got %q", got)
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("the connection lives on")
			}
		})
	}
	if len(two.got) > 0 {
		t.Errorf("also delivered: %q", <-two.got)
	}
}

// A node that does not read costs QueueBytes, and no more.
func TestQueueIsBounded(t *testing.T) {
	addresses := &sync.Map{}
	dials := make(chan struct{}, 1000)
	one := open(t, 1, addresses, func(o *Options) {
		o.QueueBytes = 10_000
		o.Dial = func(ctx context.Context, _ uint64) (net.Conn, error) {
			dials <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	one.t.Send(2, make([]byte, 1000))
	p := one.t.peers[2]
	<-dials // it has taken the first packet, and waits for a connection
	for range 100 {
		one.t.Send(2, make([]byte, 1000))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes > 10_000 || !p.lost {
		t.Errorf("%d bytes wait, lost: %v", p.bytes, p.lost)
	}
}
