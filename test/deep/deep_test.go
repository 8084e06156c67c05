// Package deep loads the real server with backlogs that no memory should have to hold.
//
//	go test ./test/deep -messages 10000000 -v
//
// Times are reported and never judged; bytes are judged.
package deep

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

var (
	messages = flag.Int("messages", 300_000, "how deep the backlogs are")
	bodySize = 100
)

const (
	perBatch = 500 // messages of one publish
	inFlight = 8   // publishes without an answer
	credit   = 2000
)

// A link is a raw connection.
type link struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, s *harness.Server) *link {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &link{t, nc, bufio.NewReaderSize(nc, 256<<10)}
}

func (l *link) send(format string, args ...any) {
	l.t.Helper()
	if _, err := fmt.Fprintf(l, format+"\n", args...); err != nil {
		l.t.Fatal(err)
	}
}

func (l *link) line() []byte {
	l.t.Helper()
	line, err := l.r.ReadSlice('\n')
	if err != nil {
		l.t.Fatal(err)
	}
	return line
}

func (l *link) ok() []byte {
	l.t.Helper()
	line := l.line()
	if !bytes.Contains(line, []byte(`"ok":true`)) {
		l.t.Fatalf("%s", line)
	}
	return line
}

// fill publishes n messages and waits for all confirms.
func fill(t testing.TB, s *harness.Server, queue string, n int) {
	t.Helper()
	l := dial(t, s)
	defer l.Close()
	body := `{"body":"` + strings.Repeat("b", bodySize-2) + `"}`
	batch := fmt.Appendf(nil, `{"op":"publish","queue":"%s","messages":[%s]}`+"\n", queue, strings.Repeat(body+",", perBatch-1)+body)
	sent, confirmed := 0, 0
	for confirmed < n {
		for sent < n && sent-confirmed < inFlight*perBatch {
			if _, err := l.Write(batch); err != nil {
				t.Fatal(err)
			}
			sent += perBatch
		}
		l.ok()
		confirmed += perBatch
	}
}

// drain receives and acks n messages over one connection.
func drain(t testing.TB, s *harness.Server, queue string, n int) {
	t.Helper()
	l := dial(t, s)
	defer l.Close()
	l.send(`{"op":"subscribe","queue":"%s","credit":%d}`, queue, credit)
	l.ok()
	var seqs []byte
	got := 0
	for got < n {
		line := l.line()
		if !bytes.HasPrefix(line, []byte(`{"op":"message"`)) {
			t.Fatalf("%s", line)
		}
		from := bytes.Index(line, []byte(`"seq":`)) + len(`"seq":`)
		to := from + bytes.IndexByte(line[from:], ',')
		seqs = append(append(seqs, ','), line[from:to]...)
		if got++; got%(credit/4) == 0 || got == n {
			l.send(`{"op":"ack","queue":"%s","quiet":true,"seq":[%s]}`, queue, seqs[1:])
			seqs = seqs[:0]
		}
	}
	l.send(`{"op":"ping"}`)
	for !bytes.Contains(l.line(), []byte(`{"ok":true`)) { // deliveries beyond n
	}
}

// roundTrips are the times from a publish to its delivery, sorted: n of them, one after another.
func roundTrips(t testing.TB, s *harness.Server, queue string, n int) []time.Duration {
	t.Helper()
	consumer, publisher := dial(t, s), dial(t, s)
	defer consumer.Close()
	defer publisher.Close()
	consumer.send(`{"op":"subscribe","queue":"%s","ack":"auto"}`, queue)
	consumer.ok()
	var took []time.Duration
	for range n {
		started := time.Now()
		publisher.send(`{"op":"publish","queue":"%s","body":1}`, queue)
		consumer.line()
		took = append(took, time.Since(started))
		publisher.ok()
	}
	slices.Sort(took)
	return took
}

// diskUsed is what the directory takes, bytes.
func diskUsed(t testing.TB, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return nil // a segment may be given back meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func rate(n int, took time.Duration) string {
	return strconv.Itoa(int(float64(n)/took.Seconds())) + "/s"
}

// A deep backlog costs little memory, restarts, and is drained; another queue does not suffer.
func TestDeepBacklog(t *testing.T) {
	s := harness.Start(t, "storage: {file: {sync: always}}\n")
	n := *messages
	alone := roundTrips(t, s, "other", 1000)
	started := time.Now()
	fill(t, s, "deep", n)
	t.Logf("published %d messages of %d bytes: %s", n, bodySize, rate(n, time.Since(started)))
	now, peak := s.Memory()
	t.Logf("resident: %d MiB, %d MiB at most; %.1f bytes a message beyond 256 MiB at most", now>>20, peak>>20, float64(peak-256<<20)/float64(n))
	if limit := int64(32*n) + 256<<20; peak > limit {
		t.Errorf("the server takes %d bytes of memory, %d are allowed", peak, limit)
	}
	beside := roundTrips(t, s, "other", 1000)
	t.Logf("p99 of another queue's publish to delivery: %v alone, %v beside the backlog", alone[990], beside[990])
	started = time.Now()
	s.Kill()
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	t.Logf("restart to serving: %v", time.Since(started))
	if now, peak = s.Memory(); peak > int64(32*n)+256<<20 {
		t.Errorf("the server takes %d bytes of memory after its restart, %d are allowed", peak, int64(32*n)+256<<20)
	}
	t.Logf("resident: %d MiB, %d MiB at most", now>>20, peak>>20)
	short := min(n, 100_000)
	fill(t, s, "short", short)
	started = time.Now()
	drain(t, s, "short", short)
	quick := time.Since(started)
	started = time.Now()
	drain(t, s, "deep", n)
	deep := time.Since(started)
	t.Logf("drained by one consumer: %s, a short queue %s; ratio %.2f", rate(n, deep), rate(short, quick), float64(n)/deep.Seconds()/(float64(short)/quick.Seconds()))
}

// One message that nobody acks pins no log.
func TestOldestMessagePinsNothing(t *testing.T) {
	s := harness.Start(t, "storage: {file: {sync: always}}\n")
	l := dial(t, s)
	l.send(`{"op":"publish","queue":"q","body":"old"}`)
	l.ok()
	l.send(`{"op":"receive","queue":"q","lease":"24h"}`)
	l.ok()
	n, worst := *messages, int64(0)
	for done := 0; done < n; done += 50_000 {
		fill(t, s, "q", 50_000)
		drain(t, s, "q", 50_000)
		worst = max(worst, diskUsed(t, s.Data))
	}
	used := diskUsed(t, s.Data)
	t.Logf("disk used: %d MiB at the end, %d MiB at most", used>>20, worst>>20)
	if used > 64<<20 {
		t.Errorf("%d bytes of disk are used for one message", used)
	}
	s.Kill()
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	l = dial(t, s)
	l.send(`{"op":"receive","queue":"q"}`)
	if line := l.ok(); !bytes.Contains(line, []byte(`"body":"old"`)) {
		t.Errorf("the old message is not there: %s", line)
	}
}
