package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// stub is a journal whose commits the test decides about.
type stub struct {
	*journal.Memory
	refuse  atomic.Bool // as a disk that is full
	refused []*journal.Batch
	wake    func()
}

func (s *stub) Propose(b *journal.Batch) {
	if s.refuse.Load() {
		b.Err = journal.ErrDiskFull
		s.refused = append(s.refused, b)
		s.wake()
		return
	}
	s.Memory.Propose(b)
}

func (s *stub) Committed(into []*journal.Batch) []*journal.Batch {
	into = append(into, s.refused...)
	s.refused = nil
	return s.Memory.Committed(into)
}

// A rig is a broker in a synctest bubble.
type rig struct {
	t     *testing.T
	b     *Broker
	stubs []*stub
	fail  error

	front *Broker // another node, which leads nothing: that of the clients; nil: they are at b
	ends  []*cable
}

func newRig(t *testing.T, change func(*Limits)) *rig {
	r := &rig{t: t}
	limits := Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 1000, AutoCreate: true, Defaults: queue.Settings{
		Storage: "memory", Lease: 30 * time.Second, MaxDeliveries: 3, RetryMin: time.Second, RetryMax: time.Minute, RetryFactor: 2,
	}}
	if change != nil {
		change(&limits)
	}
	budget := journal.NewBudget(64 << 20)
	open := func(_ int, wake func()) journal.Journal {
		s := &stub{Memory: journal.NewMemory(budget, wake), wake: wake}
		r.stubs = append(r.stubs, s)
		return s
	}
	var err error
	r.b, err = Start(Options{Version: "test", Limits: limits, Boot: 7, Seed: 1, Fail: func(err error) { r.fail = err }, Storages: []Storage{
		{Name: "memory", Stored: "memory", Open: open}, {Name: "file", Stored: "disk", Syncs: true, Open: open},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if throughAnother {
		r.goThroughAnother(limits)
	}
	return r
}

func (r *rig) close() {
	r.closeFront()
	if err := r.b.Close(); err != nil {
		r.t.Error(err)
	}
	if r.fail != nil {
		r.t.Error("the broker failed:", r.fail)
	}
}

// A peer is a session driven by a test.
type peer struct {
	*rig
	s   *Session
	dec *wire.Decoder
}

func (r *rig) peer() *peer {
	b := r.b
	if r.front != nil {
		b = r.front
	}
	return &peer{r, b.NewSession("test:1"), wire.NewDecoder(1 << 20)}
}

// send hands over lines in one go.
func (p *peer) send(lines ...string) {
	p.t.Helper()
	var req wire.Request
	for _, l := range lines {
		if err := p.dec.Decode([]byte(l), &req); err != nil {
			p.t.Fatalf("%s: %v", l, err)
		}
		p.s.Intake.Handle(&req)
	}
	p.s.Intake.Flush()
}

// take returns what has been sent to the session, after everything has come to rest.
func (p *peer) take() (lines []string) {
	synctest.Wait()
	p.s.mu.Lock()
	out := p.s.out
	p.s.out = nil
	p.s.mu.Unlock()
	var b strings.Builder
	for _, c := range out {
		b.Write(c.b)
	}
	p.s.Sent(out)
	if b.Len() == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// ask sends one line and returns the one reply.
func (p *peer) ask(line string) map[string]any {
	p.t.Helper()
	p.send(line)
	got := p.take()
	if len(got) != 1 {
		p.t.Fatalf("%s: %d replies: %q", line, len(got), got)
	}
	return parse(p.t, got[0])
}

func parse(t *testing.T, line string) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return m
}

// want compares one field, dots going down.
func (p *peer) want(line, path string, want any) {
	p.t.Helper()
	got := any(p.ask(line))
	for part := range strings.SplitSeq(path, ".") {
		m, ok := got.(map[string]any)
		if !ok {
			p.t.Fatalf("%s: no %s in %v", line, path, got)
		}
		got = m[part]
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		p.t.Errorf("%s: %s is %v, want %v", line, path, got, want)
	}
}

func TestLeaseEndsAndComesBackLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		p := r.peer()
		p.want(`{"op":"publish","queue":"q","body":1}`, "seq", 1)
		p.send(`{"op":"subscribe","queue":"q","lease":"10s"}`)
		if got := p.take(); len(got) != 2 || !strings.Contains(got[1], `"attempt":1`) {
			t.Fatalf("got %q", got)
		}
		for attempt, wait := range []time.Duration{10*time.Second + time.Second, 10*time.Second + 2*time.Second} {
			pass(wait - 5*time.Millisecond) // virtual
			if got := p.take(); got != nil {
				t.Fatalf("came back too early: %q", got)
			}
			pass(6 * time.Millisecond)
			got := p.take()
			if len(got) != 1 || !strings.Contains(got[0], fmt.Sprintf(`"attempt":%d`, attempt+2)) || !strings.Contains(got[0], `"redelivered":true`) {
				t.Fatalf("attempt %d: %q", attempt+2, got)
			}
		}
		pass(11 * time.Second)
		p.take()
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.dead", 1)
		m := p.ask(`{"op":"receive","queue":"q.dlq"}`)["messages"].([]any)[0].(map[string]any)
		h := m["headers"].(map[string]any)
		if h["gmq-dead-queue"] != "q" || h["gmq-dead-seq"] != "1" || h["gmq-dead-attempts"] != "3" || !strings.HasPrefix(h["gmq-dead-reason"].(string), "max_deliveries") {
			t.Errorf("headers %v", h)
		}
	})
}

func TestReceiveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		p, other := r.peer(), r.peer()
		p.send(`{"op":"receive","queue":"q","wait":"5s","max":10}`)
		pass(4 * time.Second)
		if got := p.take(); got != nil {
			t.Fatalf("early: %q", got)
		}
		other.send(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`)
		if got := p.take(); len(got) != 1 || strings.Count(got[0], `"seq":`) != 2 {
			t.Fatalf("got %q", got)
		}
		p.send(`{"op":"receive","queue":"q","wait":"5s"}`)
		pass(5*time.Second + time.Millisecond)
		if got := p.take(); len(got) != 1 || got[0] != `{"ok":true,"messages":[]}` {
			t.Fatalf("got %q", got)
		}
	})
}

func TestMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(l *Limits) { l.MaxInFlight = 2 })
		defer r.close()
		p := r.peer()
		p.send(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3}]}`, `{"op":"publish","queue":"another","body":4}`)
		p.take()
		p.send(`{"op":"subscribe","queue":"q","credit":10}`)
		if got := p.take(); len(got) != 3 {
			t.Fatalf("got %q", got)
		}
		p.want(`{"op":"receive","queue":"another"}`, "error.code", "overloaded")
		p.send(`{"op":"ack","quiet":true,"queue":"q","seq":1}`)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `"body":3`) {
			t.Fatalf("after an ack: %q", got)
		}
	})
}

func TestSlowReaderIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		p, slow := r.peer(), r.peer()
		body := `"` + strings.Repeat("x", 10_000) + `"`
		const n = 200
		for range n {
			p.send(`{"op":"publish","quiet":true,"queue":"q","body":` + body + `}`)
		}
		slow.send(`{"op":"subscribe","queue":"q","credit":1000}`)
		synctest.Wait()
		if got := slow.s.pending.Load(); got > OutLimit+20_000 {
			t.Fatalf("%d bytes wait for a reader that does not read", got)
		}
		count := 0
		for range n {
			got := slow.take()
			count += strings.Count(strings.Join(got, "\n"), `"op":"message"`)
			if got == nil {
				break
			}
		}
		if count != n {
			t.Errorf("%d of %d messages came", count, n)
		}
	})
}

func TestOneWorkTwoStorages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		p := r.peer()
		// Two queues of one shard in two storages, published to in one go.
		names := []string{"a"}
		for i := 0; len(names) < 2; i++ {
			if n := fmt.Sprint("b", i); shardOf([]byte(n)) == shardOf([]byte("a")) {
				names = append(names, n)
			}
		}
		p.want(`{"op":"queue.create","queue":"`+names[1]+`","storage":"file"}`, "error", nil)
		var lines []string
		for i := range 9 {
			lines = append(lines, fmt.Sprintf(`{"op":"publish","id":%d,"queue":"%s","body":%d}`, i, names[i%2], i))
		}
		p.send(lines...)
		if got := p.take(); len(got) != 9 {
			t.Fatalf("%q", got)
		}
		p.want(`{"op":"queue.info","queue":"a"}`, "counts.ready", 5)
		p.want(`{"op":"queue.info","queue":"`+names[1]+`"}`, "counts.ready", 4)
	})
}

func TestRefusingJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		p := r.peer()
		p.want(`{"op":"publish","queue":"q","body":1}`, "seq", 1)
		p.want(`{"op":"receive","queue":"q","lease":"5s"}`, "ok", true)
		for _, s := range r.stubs {
			s.refuse.Store(true)
		}
		p.want(`{"op":"publish","queue":"q","body":2}`, "error.code", "disk_full")
		p.want(`{"op":"ack","queue":"q","seq":1}`, "error.code", "disk_full")
		p.want(`{"op":"queue.create","queue":"new"}`, "error.code", "disk_full")
		p.want(`{"op":"queue.delete","queue":"q"}`, "error.code", "disk_full")
		p.send(`{"op":"subscribe","queue":"new2"}`)
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], "disk_full") {
			t.Fatalf("subscribe to a queue that cannot be made: %q", got)
		}
		pass(6 * time.Second) // the lease ends, and its end cannot be recorded
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.leased", 1)
		for _, s := range r.stubs {
			s.refuse.Store(false)
		}
		pass(3 * time.Second)
		p.want(`{"op":"queue.info","queue":"q"}`, "counts.leased", 0)
		p.want(`{"op":"publish","queue":"q","body":2}`, "seq", 2)
	})
}

func TestDrainAnswersWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		p := r.peer()
		p.want(`{"op":"publish","queue":"q2","body":1}`, "ok", true)
		p.send(`{"op":"receive","queue":"q","wait":"1h"}`)
		p.take()
		if err := r.b.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := p.take(); len(got) != 1 || got[0] != `{"ok":true,"messages":[]}` {
			t.Fatalf("%q", got)
		}
		p.want(`{"op":"publish","queue":"q","body":1}`, "error.code", "shutting_down")
	})
}

func TestEndOfSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		p, last := r.peer(), r.peer()
		p.want(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`, "ok", true)
		p.send(`{"op":"subscribe","queue":"q"}`, `{"op":"receive","queue":"q"}`, `{"op":"receive","queue":"q","wait":"1h"}`)
		p.take()
		p.send(`{"op":"publish","queue":"q","id":"last","body":3}`)
		p.s.Close()
		// What had been taken in is answered although no more can come.
		got := p.take() // the message may have been delivered to it as well
		if !slices.ContainsFunc(got, func(l string) bool { return strings.Contains(l, `"id":"last","ok":true`) }) {
			t.Fatalf("%q", got)
		}
		if _, more := p.s.Outgoing(nil); more {
			t.Error("the session's output does not end")
		}
		m := last.ask(`{"op":"receive","queue":"q","max":10}`)["messages"].([]any)
		if len(m) != 3 {
			t.Fatalf("%d messages came back", len(m))
		}
		for i, v := range m[:2] {
			if a := v.(map[string]any)["attempt"]; fmt.Sprint(a) != "2" {
				t.Errorf("message %d: attempt %v", i+1, a)
			}
		}
		if n := r.b.working.Load(); n != 0 {
			t.Errorf("%d requests are still counted as working", n)
		}
	})
}

// held is a journal that keeps nothing until it is told to.
type held struct {
	*journal.Memory
	open    *atomic.Bool
	waiting []*journal.Batch
}

func (h *held) Committed(into []*journal.Batch) []*journal.Batch {
	h.waiting = h.Memory.Committed(h.waiting)
	if !h.open.Load() {
		return into
	}
	into = append(into, h.waiting...)
	h.waiting = nil
	return into
}

// heldRig is a broker over journals that keep nothing while open is false.
func heldRig(t *testing.T, open *atomic.Bool) *rig {
	open.Store(true)
	budget := journal.NewBudget(0)
	b, err := Start(Options{
		Limits: Limits{MaxQueues: 9, MaxInFlight: 9, AutoCreate: true, Defaults: queue.Settings{Storage: "file", Lease: time.Minute}},
		Storages: []Storage{{Name: "file", Stored: "disk", Open: func(_ int, wake func()) journal.Journal {
			return &held{Memory: journal.NewMemory(budget, wake), open: open}
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, b: b}
}

// What a client sent before it closed its side is answered when it is kept, acks included.
func TestHalfCloseWaitsForTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Bool
		r := heldRig(t, &open)
		defer r.close()
		p := r.peer()
		p.want(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2}]}`, "ok", true)
		open.Store(false)
		p.send(`{"op":"ack","id":1,"queue":"q","seq":1}`, `{"op":"nack","id":2,"queue":"q","seq":2}`, `{"op":"queue.update","id":3,"queue":"q","max_messages":5}`, `{"op":"queue.update","id":4,"queue":"q","lease":"9s"}`)
		p.s.Close()
		if got := p.take(); len(got) != 1 || !strings.Contains(got[0], `"settled":0`) {
			t.Fatalf("before the journal has kept anything: %q", got)
		}
		open.Store(true)
		r.b.Wake()
		got := strings.Join(p.take(), "\n")
		for _, want := range []string{`{"id":1,"ok":true,"settled":1}`, `{"id":3,"ok":true}`, `{"id":4,"ok":true}`} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %q", want, got)
			}
		}
		info := fmt.Sprint(r.peer().ask(`{"op":"queue.info","queue":"q"}`)["settings"])
		if !strings.Contains(info, "max_messages:5") || !strings.Contains(info, "lease:9s") {
			t.Errorf("of two updates on their way one was lost: %s", info)
		}
	})
}

// A receive that came for a queue still to be made is answered although its client has closed its side since.
func TestHalfCloseWaitsForTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Bool
		r := heldRig(t, &open)
		defer r.close()
		open.Store(false)
		p := r.peer()
		p.send(`{"op":"publish","id":1,"queue":"q","body":7}`, `{"op":"receive","id":2,"queue":"q","wait":"1h"}`, `{"op":"subscribe","id":3,"queue":"q"}`)
		p.s.Close()
		open.Store(true)
		r.b.Wake()
		got := strings.Join(p.take(), "\n")
		for _, want := range []string{`{"id":1,"ok":true`, `{"id":2,"ok":true,"messages":[]}`, `{"id":3,"ok":true,"sub":1}`} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %q", want, got)
			}
		}
		if got := fmt.Sprint(r.peer().ask(`{"op":"receive","queue":"q"}`)["messages"]); !strings.Contains(got, "attempt:") {
			t.Errorf("nobody has the message, and it is not there: %s", got)
		}
	})
}

// What a consumer gets while a publish is on its way is not pushed out by it.
func TestOverflowLeavesWhatIsBeingDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Bool
		r := heldRig(t, &open)
		defer r.close()
		p, c := r.peer(), r.peer()
		p.want(`{"op":"queue.create","queue":"q","max_messages":3,"overflow":"drop_oldest"}`, "ok", true)
		p.want(`{"op":"publish","queue":"q","messages":[{"body":1},{"body":2},{"body":3}]}`, "ok", true)
		open.Store(false)
		p.send(`{"op":"publish","id":1,"queue":"q","body":4}`, `{"op":"publish","id":2,"queue":"q","body":5}`)
		p.take()
		p.send(`{"op":"publish","id":3,"queue":"q","body":6}`) // another work
		p.take()
		c.send(`{"op":"receive","queue":"q","max":9}`)
		if got := c.take(); len(got) != 1 || got[0] != `{"ok":true,"messages":[]}` {
			t.Fatalf("what is about to be pushed out is delivered: %q", got)
		}
		open.Store(true)
		r.b.Wake()
		if got := p.take(); len(got) != 3 || strings.Contains(fmt.Sprint(got), "error") {
			t.Fatalf("%q", got)
		}
		list := c.ask(`{"op":"receive","queue":"q","max":2}`)["messages"].([]any)
		if len(list) != 2 || fmt.Sprint(list[0].(map[string]any)["body"]) != "4" {
			t.Fatalf("%v", list)
		}
		open.Store(false)
		p.send(`{"op":"publish","id":4,"queue":"q","body":7}`)
		p.take()
		open.Store(true)
		r.b.Wake()
		p.take()
		c.want(`{"op":"ack","queue":"q","seq":[4,5]}`, "settled", 2)
		c.want(`{"op":"queue.info","queue":"q"}`, "counts.dropped", 4)
	})
}

func TestDeletedQueueEndsSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		p, other := r.peer(), r.peer()
		p.send(`{"op":"subscribe","queue":"q"}`, `{"op":"receive","id":1,"queue":"q","wait":"1h"}`)
		p.take()
		other.want(`{"op":"queue.delete","queue":"q"}`, "ok", true)
		got := strings.Join(p.take(), "\n")
		if !strings.Contains(got, `"op":"unsubscribed","sub":1`) || !strings.Contains(got, "not_found") {
			t.Errorf("%q", got)
		}
		other.want(`{"op":"publish","queue":"q","body":1}`, "seq", 1)
		p.want(`{"op":"unsubscribe","sub":1}`, "error.code", "not_found")
		p.s.Close()
	})
}

func TestFailedJournalEndsTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer()
		p.want(`{"op":"publish","queue":"q","body":1}`, "ok", true)
		r.b.fail(errors.New("fsync: input/output error"))
		p.send(`{"op":"publish","queue":"q","body":2}`)
		if got := p.take(); got != nil {
			t.Errorf("confirmed after a failure: %q", got)
		}
		if r.fail == nil {
			t.Error("nobody was told")
		}
		if err := r.b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// pass lets virtual time go by.
func pass(d time.Duration) { <-time.After(d) }
