package gmq

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

// confirmer answers every publish as fast as it can: what is measured is the
// client.
func confirmer(b *testing.B) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go confirm(conn)
		}
	}()
	return ln.Addr().String()
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
