package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/fnv"
	"net"
	"strings"
	"testing"
	"time"
)

// TestLongLines: bodies longer than what a reader has at hand come through as they are, in whatever pieces they arrive,
// also where several connections send and take them at the same time and buffers go from one to the other.
func TestLongLines(t *testing.T) {
	sizes := []int{500_000, 10, 64 << 10, 64<<10 - 1, 300_000, 500_000, 100, 1 << 20, 70_000, 130_000, 5000}
	inStoragesFor(t, 1<<20, func(t *testing.T, addr string) {
		failed := make(chan error, 6)
		for n := range 3 {
			queue := fmt.Sprintf("long%d", n)
			in, out := dial(t, addr), dial(t, addr)
			for _, c := range []net.Conn{in, out} {
				c.SetDeadline(time.Now().Add(2 * time.Minute)) // the race detector takes its time
			}
			go func() { failed <- sendLong(in, queue, sizes) }()
			go func() { failed <- takeLong(out, queue, sizes) }()
		}
		for range cap(failed) {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	})
}

func longBody(queue string, i, size int) string {
	h := fnv.New64()
	fmt.Fprint(h, queue, i)
	piece := fmt.Sprintf("%s.%d.%x ", queue, i, h.Sum64())
	return strings.Repeat(piece, size/len(piece)+1)[:size-2]
}

// sendLong publishes bodies of those sizes in pieces of many lengths, some of which end in the middle of a line and are
// all that the server has for as long as a ping takes.
func sendLong(c net.Conn, queue string, sizes []int) error {
	r := bufio.NewReader(c)
	for i, size := range sizes {
		line := fmt.Sprintf(`{"op":"ping"}`+"\n"+`{"op":"publish","queue":%q,"quiet":true,"body":%q}`+"\n", queue, longBody(queue, i, size))
		at := min(len(line), 20+size*(i%4)/4) // a ping, and a part of what follows
		for piece := 1000 + 70_001*(i%3); at > 0; at = min(len(line), piece) {
			if _, err := c.Write([]byte(line[:at])); err != nil {
				return err
			}
			if line[0] == '{' && strings.HasPrefix(line, `{"op":"ping"`) {
				if _, err := r.ReadString('\n'); err != nil {
					return err
				}
			}
			line = line[at:]
		}
	}
	return nil
}

func takeLong(c net.Conn, queue string, sizes []int) error {
	fmt.Fprintf(c, `{"op":"subscribe","queue":%q,"credit":3,"ack":"auto"}`+"\n", queue)
	r := bufio.NewReader(c)
	for i := 0; i < len(sizes); {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(line, []byte(`{"op":"message"`)) {
			continue
		}
		if want := `"body":"` + longBody(queue, i, sizes[i]) + `"}` + "\n"; !bytes.HasSuffix(line, []byte(want)) {
			return fmt.Errorf("message %d of %s is not what was published: %.200q…", i, queue, line)
		}
		i++
	}
	return nil
}
