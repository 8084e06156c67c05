// Package bench measures the real server over its protocol: what durability costs.
//
//	go test -run '^$' -bench . ./test/bench
package bench_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const (
	inFlight = 1000
	bodySize = 100
	messages = 50_000 // in one run
	rounds   = 5      // runs of each storage, in turn
)

// BenchmarkFileAndMemory passes messages from one connection to another, by a queue in files
// and one in memory in turn, and reports the medians and their ratio.
func BenchmarkFileAndMemory(b *testing.B) {
	s := harness.Start(b, "queue_defaults: {max_deliveries: 0}\n")
	control := s.Dial(b)
	rates := map[string][]float64{}
	for b.Loop() {
		for round := range rounds {
			for _, storage := range []string{"file", "memory"} {
				queue := fmt.Sprintf("%s%d.%d", storage, round, len(rates[storage]))
				control.OK(`{"op":"queue.create","queue":"%s","storage":"%s"}`, queue, storage)
				rates[storage] = append(rates[storage], pass(b, queue, func() net.Conn { return dial(b, s.Addr) }))
				control.OK(`{"op":"queue.delete","queue":"%s"}`, queue)
			}
		}
	}
	file, memory := median(rates["file"]), median(rates["memory"])
	b.ReportMetric(file, "file-msgs/s")
	b.ReportMetric(memory, "memory-msgs/s")
	b.ReportMetric(memory/file, "memory/file")
	b.ReportMetric(0, "ns/op") // of no meaning here
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// pass moves messages through the queue and gives how many a second.
func pass(b *testing.B, queue string, connect func() net.Conn) float64 {
	consumer, publisher := connect(), connect()
	defer consumer.Close()
	defer publisher.Close()
	fmt.Fprintf(consumer, `{"op":"subscribe","queue":"%s","credit":%d}`+"\n", queue, inFlight)
	r := bufio.NewReaderSize(consumer, 256<<10)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, `"ok":true`) {
		b.Fatal(line, err)
	}
	started := time.Now()
	failed := make(chan error, 1)
	go func() { failed <- publish(publisher, queue) }()
	if err := consume(r, consumer, queue); err != nil {
		b.Fatal(err)
	}
	took := time.Since(started)
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
	return messages / took.Seconds()
}

func dial(b *testing.B, addr string) net.Conn {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(harness.Patience))
	return nc
}

// publish keeps up to inFlight publishes on their way; each is its own request with its own reply.
func publish(nc net.Conn, queue string) error {
	line := []byte(fmt.Sprintf(`{"op":"publish","queue":"%s","body":"%s"}`+"\n", queue, strings.Repeat("b", bodySize-2)))
	tokens, done := make(chan struct{}, inFlight), make(chan error, 1)
	go func() {
		r := bufio.NewReaderSize(nc, 64<<10)
		for range messages {
			reply, err := r.ReadSlice('\n')
			if err == nil && !bytes.Contains(reply, []byte(`"ok":true`)) {
				err = fmt.Errorf("%s", reply)
			}
			if err != nil {
				done <- err
				return
			}
			<-tokens
		}
		done <- nil
	}()
	w := bufio.NewWriterSize(nc, 16<<10)
	for range messages {
		select {
		case tokens <- struct{}{}:
		default:
			w.Flush()
			select {
			case tokens <- struct{}{}:
			case err := <-done:
				return err
			}
		}
		w.Write(line)
	}
	w.Flush()
	return <-done
}

// consume acks what has arrived together in one request.
func consume(r *bufio.Reader, w net.Conn, queue string) error {
	var seqs []byte
	unacked := 0
	for left := messages; left > 0; {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte(`{"op":"message"`)) {
			left--
			unacked++
			seqs = append(append(seqs, ','), number(line, `"seq":`)...)
		} else if !bytes.Contains(line, []byte(`"ok":true`)) {
			return fmt.Errorf("%s", line)
		}
		if unacked > 0 && (r.Buffered() == 0 || unacked >= 200 || left == 0) {
			if _, err := fmt.Fprintf(w, `{"op":"ack","queue":"%s","quiet":true,"seq":[%s]}`+"\n", queue, seqs[1:]); err != nil {
				return err
			}
			seqs, unacked = seqs[:0], 0
		}
	}
	// What was acked quietly is settled when the next request is answered.
	fmt.Fprintf(w, `{"op":"ack","queue":"%s","seq":1}`+"\n", queue)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		var reply struct{ OK *bool }
		if json.Unmarshal(line, &reply) == nil && reply.OK != nil {
			if !*reply.OK {
				return fmt.Errorf("%s", line)
			}
			return nil
		}
	}
}

// number is the digits behind a field's name; nothing a client chose stands before seq.
func number(line []byte, name string) []byte {
	_, rest, _ := bytes.Cut(line, []byte(name))
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	return rest[:end]
}
