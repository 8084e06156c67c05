package gmq

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/gmq/gmq/wire"
)

// confirmer answers every publish as fast as it can: what is measured is the
// client.
func confirmer(b *testing.B) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return accept(b, ln, confirm)
}

// accept hands every connection to serve, and gives the address.
func accept(b *testing.B, ln net.Listener, serve func(net.Conn)) string {
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return ln.Addr().String()
}

// pusher gives a message for every one that has been acked, and the credit at first.
func pusher(b *testing.B, credit int) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	d := wire.Delivery{Pushed: true, Sub: 1, Queue: "bench", Attempt: 1, Receipt: []byte("1.2a"), Published: 1767323045123456789, Body: []byte(`"` + strings.Repeat("x", 98) + `"`)}
	return accept(b, ln, func(conn net.Conn) {
		defer conn.Close()
		in := lineReader{r: conn, buf: make([]byte, 256<<10)}
		var out []byte
		for {
			line, err := in.next()
			if err != nil {
				return
			}
			_, id, _ := bytes.Cut(line, []byte(`"id":`))
			id, _, _ = bytes.Cut(id, []byte(","))
			more := 0
			if bytes.Contains(line, []byte(`"op":"ack"`)) {
				seqs, _, _ := bytes.Cut(line, []byte(`"receipt"`))
				_, seqs, _ = bytes.Cut(seqs, []byte(`"seq":`))
				more = 1 + bytes.Count(bytes.TrimRight(seqs, ",]"), []byte(","))
				out = fmt.Appendf(out, "{\"id\":%s,\"ok\":true,\"settled\":%d}\n", id, more)
			} else if bytes.Contains(line, []byte(`"op":"subscribe"`)) {
				more = credit
				out = fmt.Appendf(out, "{\"id\":%s,\"ok\":true,\"sub\":1}\n", id)
			} else {
				out = fmt.Appendf(out, "{\"id\":%s,\"ok\":true}\n", id)
			}
			for range more {
				d.Seq++
				out = append(wire.AppendDelivery(out, &d), '\n')
			}
			if bytes.IndexByte(in.buf[in.start:in.end], '\n') >= 0 {
				continue
			}
			if _, err := conn.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
	})
}

// BenchmarkMessages takes messages and acks them, without waiting for the acks.
func BenchmarkMessages(b *testing.B) {
	c, err := Dial(b.Context(), pusher(b, 1000))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for m, err := range c.Queue("bench").Messages(b.Context(), Credit(1000)) {
		if err != nil {
			b.Fatal(err)
		}
		m.AckAsync()
		if n++; n == b.N {
			break
		}
	}
}

func confirm(conn net.Conn) {
	defer conn.Close()
	in := lineReader{r: conn, buf: make([]byte, 256<<10)}
	var out []byte
	for {
		line, err := in.next()
		if err != nil {
			return
		}
		_, id, _ := bytes.Cut(line, []byte(`"id":`))
		id, _, _ = bytes.Cut(id, []byte(","))
		out = append(append(append(out, `{"id":`...), id...), ",\"ok\":true,\"seq\":123456,\"stored\":\"disk\"}\n"...)
		if bytes.IndexByte(in.buf[in.start:in.end], '\n') >= 0 {
			continue
		}
		if _, err := io.Copy(conn, bytes.NewReader(out)); err != nil {
			return
		}
		out = out[:0]
	}
}

func BenchmarkSendAsync(b *testing.B) {
	c, err := Dial(b.Context(), confirmer(b))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	q := c.Queue("bench")
	body := strings.Repeat("x", 98)
	const window = 1024
	var futures [window]*Future
	b.ReportAllocs()
	for i := range b.N {
		if f := futures[i%window]; f != nil {
			if _, err := f.Wait(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		futures[i%window] = q.SendAsync(b.Context(), body)
	}
	for _, f := range futures {
		if f != nil {
			_, _ = f.Wait(b.Context())
		}
	}
}

func BenchmarkSend(b *testing.B) {
	c, err := Dial(b.Context(), confirmer(b))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	q := c.Queue("bench")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := q.Send(b.Context(), "hello"); err != nil {
			b.Fatal(err)
		}
	}
}
