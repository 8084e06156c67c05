package limits_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gmq/gmq/test/harness"
)

// What memory queues hold ends at limits.memory; publishers are told, and file queues go on.
func TestMemoryLimit(t *testing.T) {
	s := harness.Start(t, "limits: {memory: 64MiB}\n")
	c := s.Dial(t)
	before, _ := s.Memory()
	const limit, size = 64 * mib, 10 << 10
	body := strings.Repeat("m", size-2)
	c.OK(`{"op":"queue.create","queue":"m","storage":"memory"}`)
	stored := 0
	var refused harness.Line
	for ; stored*size < 2*limit; stored += 10 {
		l := c.Do(`{"op":"publish","queue":"m","messages":[%s{"body":"%s"}]}`, strings.Repeat(`{"body":"`+body+`"},`, 9), body)
		if !l.Bool("ok") {
			refused = l
			break
		}
	}
	refused.WantCode(t, "overloaded")
	says(t, refused, true, "memory")
	if stored*size < limit/2 || stored*size > limit {
		t.Errorf("%d MiB were stored in memory; limits.memory is %d MiB", stored*size/mib, limit/mib)
	}
	_, peak := s.Memory()
	t.Logf("%d MiB in a memory queue; the server grew from %d to %d MiB", stored*size/mib, before/mib, peak/mib)
	if peak-before > 2*limit {
		t.Errorf("limits.memory is %d MiB; the server grew by %d MiB", limit/mib, (peak-before)/mib)
	}
	if l := c.OK(`{"op":"publish","queue":"f","body":"%s"}`, body); l.Text("stored") != "disk" {
		t.Errorf("%s", l.Raw)
	}
	if ms := c.OK(`{"op":"receive","queue":"f"}`).Each("messages"); len(ms) != 1 || len(ms[0].Body()) != size {
		t.Errorf("a file queue while memory is used up")
	}
	if got := counts(c, "m"); got.Int("published") != int64(stored) {
		t.Errorf("%d stored: %s", stored, got.Raw)
	}
	for taken := 0; taken < stored; { // what is taken makes room again
		ms := c.OK(`{"op":"receive","queue":"m","max":100,"ack":"auto"}`).Each("messages")
		if len(ms) == 0 {
			t.Fatalf("%d of %d messages came back", taken, stored)
		}
		taken += len(ms)
	}
	harness.Eventually(t, "there is memory again", func() bool {
		return c.Do(`{"op":"publish","queue":"m","body":"%s"}`, body).Bool("ok")
	})
}

// busy works on a queue of its own while something else goes on.
func busy(c *harness.Conn, rounds int) {
	for i := range rounds {
		c.OK(`{"op":"publish","queue":"busy","body":%d}`, i)
		m := c.OK(`{"op":"receive","queue":"busy"}`).Each("messages")[0]
		c.OK(`{"op":"ack","queue":"busy","seq":%d}`, m.Int("seq"))
	}
}

// A consumer with much credit that never reads costs a few buffers, not its backlog.
func TestSlowReader(t *testing.T) {
	s := harness.Start(t, "limits: {memory: 64MiB}\n")
	c := s.Dial(t)
	const n, size = 10_000, 10 << 10
	message := `{"body":"` + strings.Repeat("s", size-2) + `"}`
	batch := strings.Repeat(message+",", 99) + message
	for range n / 100 {
		c.OK(`{"op":"publish","queue":"slow","messages":[%s]}`, batch)
	}
	busy(c, 10)
	before, _ := s.Memory()
	slow := s.Dial(t)
	slow.OK(`{"op":"subscribe","queue":"slow","credit":100000}`)
	busy(c, 300)
	after, _ := s.Memory()
	t.Logf("a slow reader of %d MiB took the server from %d to %d MiB", n*size/mib, before/mib, after/mib)
	if after-before > 16*mib {
		t.Errorf("the server grew by %d MiB for a reader that does not read", (after-before)/mib)
	}
	if leased := counts(c, "slow").Int("leased"); leased == 0 || leased > 5000 {
		t.Errorf("%d messages are leased by a reader that does not read", leased)
	}
	for i := range n { // and once it reads, it gets all there is
		if m := slow.Push(); m.Int("seq") != int64(i+1) || len(m.Body()) != size {
			t.Fatalf("message %d: %.100s", i+1, m.Raw)
		}
	}
}

// Clients that send requests and read no replies are not read from any more; nothing is lost.
func TestRepliesNotRead(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	busy(c, 10)
	before, _ := s.Memory()
	requests := []string{
		`{"op":"ping","id":%d}` + "\n",
		`{"op":"hello","id":%d}` + "\n",
		`{"op":"publish","id":%d,"queue":"q","body":1}` + "\n",
		`{"op":"nope","id":%d}` + "\n",
		`{"op":"receive","id":%d,"queue":"none"}` + "\n",
	}
	var all []*deafClient
	last := before
	for _, request := range requests {
		d := &deafClient{Conn: s.Dial(t), request: request}
		all = append(all, d)
		d.shout(t)
		now, _ := s.Memory()
		t.Logf("%d requests unread took the server from %d to %d MiB: %s", d.sent, last/mib, now/mib, strings.TrimSpace(request))
		last = now
	}
	busy(c, 100)
	after, _ := s.Memory()
	if after-before > 48*mib {
		t.Errorf("the server grew by %d MiB", (after-before)/mib)
	}
	for _, d := range all {
		d.listen(t)
	}
}

// A deafClient pipelines requests until the server takes no more.
type deafClient struct {
	*harness.Conn
	request string
	sent    int    // requests, the last of them perhaps in part
	rest    []byte // of the last
}

func (d *deafClient) shout(t *testing.T) {
	const most = 64 * mib
	for n := 0; n < most; {
		var b bytes.Buffer
		for range 1000 {
			fmt.Fprintf(&b, d.request, d.sent)
			d.sent++
		}
		// However busy the machine is: to stop too early costs this test nothing.
		d.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		k, err := d.Write(b.Bytes())
		if n += k; errors.Is(err, os.ErrDeadlineExceeded) {
			d.rest = b.Bytes()[k:]
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("%d requests were taken whose replies nobody reads: %s", d.sent, d.request)
}

func (d *deafClient) listen(t *testing.T) {
	go func() {
		d.SetWriteDeadline(time.Now().Add(harness.Patience))
		d.Write(d.rest)
	}()
	seen := make([]bool, d.sent)
	for range d.sent {
		l := d.Next()
		id := l.Int("id")
		if id < 0 || id >= int64(d.sent) || seen[id] {
			t.Fatalf("rule 6: exactly one reply: %s", l.Raw)
		}
		seen[id] = true
	}
}

// Lines that never end: each is refused when it is too long, and holds no more than the limit.
func TestEndlessLines(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	busy(c, 10)
	before, _ := s.Memory()
	const clients = 8
	endless := make([]*harness.Conn, clients)
	piece := bytes.Repeat([]byte(`{"op":`), mib/6)
	for i := range endless {
		endless[i] = s.Dial(t)
		for range 8 {
			endless[i].SendRaw(piece)
		}
		endless[i].Next().WantCode(t, "line_too_long")
	}
	busy(c, 10)
	after, peak := s.Memory()
	t.Logf("%d endless lines took the server from %d to %d MiB, at most %d", clients, before/mib, after/mib, peak/mib)
	if peak-before > (clients+16)*mib {
		t.Errorf("the server grew from %d to %d MiB", before/mib, peak/mib)
	}
	for _, e := range endless { // one error a line
		e.SendRaw([]byte("\n"))
		e.OK(`{"op":"ping"}`)
	}
}

// Lines that stop just before they are too long: this is what a client may make the server hold.
func TestUnfinishedLines(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	busy(c, 10)
	before, _ := s.Memory()
	const clients = 16
	line := bytes.Repeat([]byte("x"), mib)
	for range clients {
		u := s.Dial(t)
		u.OK(`{"op":"ping"}`)
		u.SendRaw(line)
		t.Cleanup(func() { u.Close() })
	}
	busy(c, 100)
	_, peak := s.Memory()
	t.Logf("%d unfinished lines of 1 MiB took the server from %d to at most %d MiB", clients, before/mib, peak/mib)
	if peak-before > 4*clients*mib {
		t.Errorf("the server grew from %d to %d MiB", before/mib, peak/mib)
	}
}

// A connection that has nothing to say costs next to nothing, also after it has said something.
func TestIdleConnections(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 2000
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Max < uint64(n+200) {
		t.Skipf("%d connections need as many descriptors; the limit is %d (%v)", n, files.Max, err)
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Skip("more descriptors are not allowed: ", err)
	}
	s := harness.Start(t, "limits: {max_connections: 20000}\n")
	c := s.Dial(t)
	busy(c, 100)
	before, _ := s.Memory()
	idle := make([]*harness.Conn, n)
	for i := range idle {
		idle[i] = s.DialSmall(t)
		idle[i].Send(`{"op":"ping"}`)
	}
	for _, c := range idle {
		if l := c.Next(); !l.Bool("ok") {
			t.Fatal(l.Raw)
		}
	}
	busy(c, 100)
	after, _ := s.Memory()
	each := (after - before) / int64(n)
	t.Logf("%d idle connections took the server from %d to %d MiB: %d bytes each", n, before/mib, after/mib, each)
	if each > 16<<10 {
		t.Errorf("an idle connection costs %d bytes", each)
	}
	for _, c := range idle {
		c.Send(`{"op":"ping"}`)
	}
	for _, c := range idle {
		if l := c.Next(); !l.Bool("ok") {
			t.Fatal(l.Raw)
		}
		c.Close()
	}
}

// A thousand queues, each with a consumer, and each gets its messages.
func TestManyQueues(t *testing.T) {
	s := harness.Start(t, "")
	const queues, each, clients = 1000, 3, 20
	var lines [clients]strings.Builder
	for q := range queues {
		b := &lines[q%clients]
		fmt.Fprintf(b, `{"op":"subscribe","queue":"q%d","credit":%d}`+"\n", q, each)
	}
	consumers := make([]*harness.Conn, clients)
	for i := range consumers {
		consumers[i] = s.Dial(t)
		consumers[i].SendRaw([]byte(lines[i].String()))
	}
	for _, c := range consumers {
		for range queues / clients {
			if l := c.Reply(); !l.Bool("ok") {
				t.Fatal(l.Raw)
			}
		}
	}
	var b bytes.Buffer
	for i := range queues * each {
		fmt.Fprintf(&b, `{"op":"publish","queue":"q%d","body":%d,"quiet":true}`+"\n", i%queues, i)
	}
	p := s.Dial(t)
	p.SendRaw(b.Bytes())
	for _, c := range consumers {
		var acks bufferedLines
		for range queues / clients * each {
			m := c.Push()
			if want := fmt.Sprintf("q%d", m.Int("body")%queues); m.Text("queue") != want {
				t.Fatalf("the message of %s: %s", want, m.Raw)
			}
			acks.addf(`{"op":"ack","quiet":true,"queue":"%s","seq":%d,"receipt":%s}`, m.Text("queue"), m.Int("seq"), m.Fields["receipt"])
		}
		acks.send(c)
		if got := c.Settle(); len(got) > 0 {
			t.Fatal(got[0].Raw)
		}
	}
	harness.Eventually(t, "all are acked", func() bool {
		totals := p.OK(`{"op":"server.info"}`).At("totals")
		return totals.Int("queues") == queues && totals.Int("ready")+totals.Int("leased")+totals.Int("delayed") == 0
	})
}

// bufferedLines are requests that are sent together.
type bufferedLines struct{ b bytes.Buffer }

func (l *bufferedLines) addf(format string, args ...any) { fmt.Fprintf(&l.b, format+"\n", args...) }

func (l *bufferedLines) send(c *harness.Conn) {
	w := bufio.NewWriter(c.Conn)
	w.Write(l.b.Bytes())
	w.Flush()
}
