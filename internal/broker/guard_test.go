package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/wire"
)

// A keeper is a guard that allows what is in its list, "publish a", and counts how often it is asked.
type keeper struct {
	mu         sync.Mutex // guards the following
	generation uint64
	unknown    bool
	may        map[string]bool
	asked      int
	wait       *wire.Error
	notes      []string
}

func (k *keeper) Generation() uint64 { k.mu.Lock(); defer k.mu.Unlock(); return k.generation }
func (k *keeper) Known() bool        { k.mu.Lock(); defer k.mu.Unlock(); return !k.unknown }
func (k *keeper) Take(int) *wire.Error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wait
}

func (k *keeper) May(verbs wire.Verb, name []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	for v := wire.Verb(1); v < wire.AnyVerb; v <<= 1 {
		if verbs&v != 0 && k.may[v.String()+" "+string(name)] {
			return true
		}
	}
	return false
}

func (k *keeper) Note(op wire.Op, name []byte, err *wire.Error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	code := wire.Code("allowed")
	if err != nil {
		code = err.Code
	}
	k.notes = append(k.notes, fmt.Sprintf("%s %s %s", op, name, code))
}

// set changes what is allowed.
func (k *keeper) set(may ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.generation++
	k.may = map[string]bool{}
	for _, m := range may {
		k.may[m] = true
	}
}

func (k *keeper) questions() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.asked
	k.asked = 0
	return n
}

func guardedRig(t *testing.T, f func(k *keeper, p, open *peer)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		k, p := &keeper{}, r.peer()
		p.s.SetGuard(k)
		f(k, p, r.peer())
	})
}

// What was allowed is remembered for as long as nothing has changed, for the name that is used again and again.
func TestGuardIsAskedOnce(t *testing.T) {
	guardedRig(t, func(k *keeper, p, _ *peer) {
		k.set("publish a", "consume b", "publish b")
		for range 100 {
			p.want(`{"op":"publish","queue":"a","body":1}`, "ok", true)
			p.want(`{"op":"receive","queue":"b"}`, "ok", true)
			p.want(`{"op":"ack","queue":"b","seq":1}`, "ok", true)
		}
		if n := k.questions(); n != 2 {
			t.Errorf("the guard was asked %d times", n)
		}
		k.set("consume b")
		p.want(`{"op":"publish","queue":"a","body":1}`, "error.code", "forbidden")
		p.want(`{"op":"publish","queue":"b","body":1}`, "error.code", "forbidden")
		p.want(`{"op":"ack","queue":"a","seq":1}`, "error.code", "forbidden")
		p.want(`{"op":"ack","queue":"b","seq":1}`, "ok", true)
		if got := strings.Join(k.notes, ", "); got != "publish a forbidden, publish b forbidden, ack a forbidden" {
			t.Errorf("noted: %s", got)
		}
	})
}

// With authentication on, the gate costs a publish and an ack no allocation.
func TestGuardAllocatesNothing(t *testing.T) {
	in, k := &Intake{s: &Session{}}, &keeper{}
	k.set("publish a", "consume a")
	g := &guarded{k}
	dec := wire.NewDecoder(0)
	var publish, ack wire.Request
	for line, r := range map[string]*wire.Request{`{"op":"publish","queue":"a","body":1,"headers":{"traceparent":"00-1"}}`: &publish, `{"op":"ack","queue":"a","seq":1}`: &ack} {
		if err := dec.Decode([]byte(line), r); err != nil {
			t.Fatal(err)
		}
		dec = wire.NewDecoder(0)
	}
	if n := testing.AllocsPerRun(100, func() {
		if in.authorize(g, &publish) != nil || in.authorize(g, &ack) != nil {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An operation that is not in the table is for nobody, whatever he may do.
func TestUnknownOperationsAreRefused(t *testing.T) {
	in, k := &Intake{s: &Session{}}, &keeper{}
	for _, op := range []wire.Op{wire.OpNone, 200} {
		if err := in.authorize(&guarded{k}, &wire.Request{Op: op}); err == nil || err.Code != wire.CodeForbidden {
			t.Errorf("%d: %v", op, err)
		}
	}
}

func TestGuardOfStrangers(t *testing.T) {
	guardedRig(t, func(k *keeper, p, _ *peer) {
		k.set("publish a", "consume a")
		k.unknown = true
		for _, line := range []string{`{"op":"publish","queue":"a","body":1}`, `{"op":"ack","queue":"a","seq":1}`, `{"op":"ack","queue":".c1.s1","seq":1}`, `{"op":"queue.list"}`, `{"op":"unsubscribe","sub":1}`, `{"op":"user.list"}`} {
			p.want(line, "error.code", "unauthenticated")
		}
		p.want(`{"op":"hello"}`, "ok", true)
		p.want(`{"op":"ping"}`, "ok", true)
	})
}

func TestGuardOfRates(t *testing.T) {
	guardedRig(t, func(k *keeper, p, open *peer) {
		k.set("publish a", "consume a", "peek a")
		p.want(`{"op":"publish","queue":"a","body":1}`, "ok", true)
		p.want(`{"op":"receive","queue":"a"}`, "ok", true)
		k.wait = wire.Errorf(wire.CodeRateLimited, "try again in 5ms")
		p.want(`{"op":"publish","queue":"a","body":1}`, "error.code", "rate_limited")
		p.want(`{"op":"queue.peek","queue":"a"}`, "error.retryable", true)
		p.want(`{"op":"ack","queue":"a","seq":1}`, "settled", 1) // to settle makes room, and is never too much
		open.want(`{"op":"queue.info","queue":"a"}`, "counts.published", 1)
	})
}

// Rights that go end what was begun by them: subscriptions, waiting receives, and those that are on their way to a shard.
func TestRecheck(t *testing.T) {
	guardedRig(t, func(k *keeper, p, open *peer) {
		k.set("consume a", "consume t.*", "consume b")
		p.want(`{"op":"subscribe","queue":"a"}`, "sub", 1)
		p.want(`{"op":"subscribe","topic":"t.*"}`, "sub", 2)
		p.want(`{"op":"subscribe","queue":"b"}`, "sub", 3)
		p.send(`{"op":"receive","id":"w","queue":"a","wait":"1h"}`)
		open.want(`{"op":"publish","queue":"b","body":1}`, "ok", true)
		if lines := p.take(); len(lines) != 1 || !strings.Contains(lines[0], `"sub":3`) {
			t.Fatal(lines)
		}
		k.set("consume b")
		p.s.b.Recheck()
		got := strings.Join(p.take(), "\n")
		for _, want := range []string{`"op":"unsubscribed","sub":1`, `"op":"unsubscribed","sub":2`, `{"id":"w","ok":false,"error":{"code":"forbidden"`} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in\n%s", want, got)
			}
		}
		if strings.Contains(got, `"sub":3`) {
			t.Error(got)
		}
		if n := p.s.b.ephemeral.Load(); n != 0 {
			t.Errorf("%d ephemeral queues are left", n)
		}
		open.want(`{"op":"publish","topic":"t.x","body":1}`, "queues", 0)
		p.want(`{"op":"ack","queue":"b","seq":1}`, "settled", 1)
		k.set()
		p.s.b.Recheck()
		if lines := p.take(); len(lines) != 1 {
			t.Error(lines)
		}
	})
	// The right goes between the gate and the shard.
	guardedRig(t, func(k *keeper, p, _ *peer) {
		k.set("consume a", "consume t")
		p.want(`{"op":"receive","queue":"a"}`, "ok", true)
		var r wire.Request
		for _, line := range []string{`{"op":"subscribe","queue":"a"}`, `{"op":"subscribe","topic":"t"}`, `{"op":"receive","queue":"a","wait":"1h"}`} {
			if err := p.dec.Decode([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			p.s.Intake.Handle(&r)
		}
		k.set()
		p.s.Intake.Flush()
		got := strings.Join(p.take(), "\n")
		if strings.Count(got, `"forbidden"`)+strings.Count(got, `"op":"unsubscribed"`)+strings.Count(got, `"ok":true`) == 0 {
			t.Error(got)
		}
		p.s.b.Recheck()
		p.take()
		for _, sh := range p.b.shards {
			sh.call(func(sh *shard) {
				if m := sh.members[p.s]; m != nil && len(m.subs)+len(m.waits) > 0 {
					t.Errorf("shard %d still delivers", sh.index)
				}
			})
		}
	})
}

func TestDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		if err := r.b.PutDocument("x/a", []byte("one")); err != nil {
			t.Fatal(err)
		}
		var told []string
		r.b.WatchDocuments("x/", func(name string, data []byte) { told = append(told, name+"="+string(data)) })
		for _, d := range [][2]string{{"x/b", "two"}, {"y", "other"}, {"x/a", ""}} {
			if err := r.b.PutDocument(d[0], []byte(d[1])); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(told, " "); got != "x/a=one x/b=two x/a=" {
			t.Errorf("told: %s", got)
		}
		if err := r.b.PutDocument("x/c", make([]byte, 1<<20)); err == nil || len(told) != 3 {
			t.Errorf("a document that is too large: %v, %v", err, told)
		}
		// They are shard 0's, in the storage that keeps what it is given.
		for _, sh := range r.b.shards {
			for _, st := range sh.stores {
				if n := len(st.state.DocumentNames()); (n > 0) != (sh.index == 0 && st.Name == "file") {
					t.Errorf("shard %d, %s: %d documents", sh.index, st.Name, n)
				}
			}
		}
	})
}

// A storage that is full says so, and nobody is told of what was not kept.
func TestDocumentsOfAFullStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		r.b.WatchDocuments("", func(name string, _ []byte) { t.Errorf("told of %s", name) })
		for _, s := range r.stubs {
			s.refuse.Store(true)
		}
		err := r.b.PutDocument("a", []byte("x"))
		if coded, ok := err.(*wire.Error); !ok || coded.Code != wire.CodeDiskFull {
			t.Errorf("%v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.close()
		if err := r.b.PutDocument("a", []byte("x")); err == nil {
			t.Error("kept by a broker that has ended")
		}
		<-time.After(time.Second)
	})
}

// Who may publish to a topic and nothing else learns of a queue behind it that it takes no more, and not which, nor how full it is.
func TestTopicTellsNothingOfQueues(t *testing.T) {
	guardedRig(t, func(k *keeper, p, open *peer) {
		k.set("publish a.b")
		open.want(`{"op":"queue.create","queue":"hidden","storage":"memory","max_messages":1}`, "ok", true)
		open.want(`{"op":"queue.bind","queue":"hidden","topic":"a.*"}`, "ok", true)
		p.want(`{"op":"publish","topic":"a.b","body":1}`, "ok", true)
		for line, code := range map[string]wire.Code{
			`{"op":"publish","topic":"a.b","body":1}`:                 wire.CodeQueueFull,
			`{"op":"publish","topic":"a.b","body":1,"stored":"disk"}`: wire.CodeNotStored,
		} {
			for _, may := range []string{"publish a.b", "peek hidden"} {
				k.set("publish a.b", may)
				got := fmt.Sprint(p.ask(line))
				sees := strings.HasPrefix(may, "peek")
				if !strings.Contains(got, string(code)) || strings.Contains(got, "hidden") != sees || strings.Contains(got, "max_messages") && !sees {
					t.Errorf("with %q: %s", may, got)
				}
			}
		}
	})
}

// The gate knows by itself what the operations of the hot path need. It is what the table in wire says.
func TestGateAgreesWithTheTable(t *testing.T) {
	for op, line := range map[wire.Op]string{
		wire.OpPublish: `{"op":"publish","queue":"a","body":1}`, wire.OpAck: `{"op":"ack","queue":"a","seq":1}`,
		wire.OpNack: `{"op":"nack","queue":"a","seq":1}`, wire.OpExtend: `{"op":"extend","queue":"a","seq":1,"lease":"1m"}`,
	} {
		needs, _, known := wire.Needs(op)
		var r wire.Request
		if err := wire.NewDecoder(0).Decode([]byte(line), &r); err != nil || !known {
			t.Fatalf("%s: %v, known %v", line, err, known)
		}
		for v := wire.Verb(1); v < wire.AnyVerb; v <<= 1 {
			in, k := &Intake{s: &Session{}}, &keeper{}
			k.set(v.String() + " a")
			for _, n := range needs {
				if n.Field == wire.FieldQueue && (in.authorize(&guarded{k}, &r) == nil) != (n.Verbs&v != 0) {
					t.Errorf("%s with %s: the table needs %s", op, v, n.Verbs)
				}
			}
		}
	}
	needs, _, _ := wire.Needs(wire.OpPublish)
	if len(needs) != 2 || needs[0].Verbs != needs[1].Verbs {
		t.Error("the gate takes topics for queues") // as both need the same
	}
}

// BenchmarkGuard is what the gate costs a publish whose user publishes to the same queue again and again.
func BenchmarkGuard(b *testing.B) {
	in, k := &Intake{s: &Session{}}, &fixed{}
	var r wire.Request
	if err := wire.NewDecoder(0).Decode([]byte(`{"op":"publish","queue":"orders.eu.paris","body":1}`), &r); err != nil {
		b.Fatal(err)
	}
	in.s.SetGuard(k)
	b.ReportAllocs()
	for b.Loop() {
		in.admit(&r)
	}
}

// A fixed guard allows everything, without a lock.
type fixed struct{ keeper }

func (*fixed) Generation() uint64         { return 1 }
func (*fixed) Known() bool                { return true }
func (*fixed) May(wire.Verb, []byte) bool { return true }
func (*fixed) Take(int) *wire.Error       { return nil }
