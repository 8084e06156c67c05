package loadgen

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gmq/gmq/wire"
)

func TestBody(t *testing.T) {
	t.Parallel()
	for _, want := range []letter{{}, {1, 2, 3}, {1<<16 - 1, 1<<40 - 1, 1<<48 - 1}} {
		b := newBody(MinSize+3, "0123abcd", want.publisher)
		stamp(b, want.n, want.at)
		got, ok := readBody(b, "0123abcd")
		if !ok || got != want || len(b) != MinSize+3 || !json.Valid(b) {
			t.Errorf("%s: %+v, %v", b, got, ok)
		}
		if _, ok := readBody(b, "0123abce"); ok {
			t.Error("a body of another run was taken for ours")
		}
	}
	for _, b := range []string{``, `""`, `{"a":"0123abcd0000000000000000000000000000"}`, `"0123abcd000g0000000000000000000000000"`} {
		if _, ok := readBody([]byte(b), "0123abcd"); ok {
			t.Errorf("%s was taken for ours", b)
		}
	}
}

// All publishers together send at the rate, in turn.
func TestPace(t *testing.T) {
	t.Parallel()
	const rate, batch, publishers = 1000.0, 5, 3
	start := time.Second
	for k := range uint64(100) {
		for p := range publishers {
			turn := time.Duration(int(k)*publishers + p)
			want := start + turn*batch*time.Millisecond
			if got := newPace(rate, batch, publishers, p, start).due(k); (got - want).Abs() > time.Microsecond {
				t.Fatalf("request %d of publisher %d is due at %v, not %v", k, p, got, want)
			}
		}
	}
	if got, want := newPace(3, 1, 1, 0, 0).due(3*3600*72), 72*time.Hour; (got - want).Abs() > time.Microsecond {
		t.Errorf("after 72 hours the schedule is %v off", got-want)
	}
}

// A histogram is right to three digits, and counts by when a message was to be sent.
func TestTally(t *testing.T) {
	t.Parallel()
	ts := newTallies(40)
	s := span{time.Second, 2 * time.Second}
	for i := range 1000 {
		ts.of(i).count(s, s.from, s.from+time.Duration(i+1)*time.Millisecond, 2) // the last of them at the span's end
	}
	ts.of(0).count(s, s.from-1, s.from+1, 100)  // to be sent before
	ts.of(0).count(s, s.until, s.until+1, 100)  // to be sent after
	ts.of(0).count(s, s.from, s.from-5, 1)      // a clock that is odd
	ts.of(0).count(s, s.from, 100*time.Hour, 1) // the same
	sum := ts.sum()
	if sum.events != 2*999+100 || sum.measured != 2002 || sum.last != 100*time.Hour {
		t.Errorf("%d events, %d measured, the last at %v", sum.events, sum.measured, sum.last)
	}
	l := latencyOf(sum.latency)
	for _, x := range []struct{ got, want float64 }{{l.P50Micro, 500e3}, {l.P90Micro, 900e3}, {l.P99Micro, 990e3}, {l.P999Micro, 999e3}, {l.MaxMicro, 3600e6}} {
		if x.got < x.want*0.998 || x.got > x.want*1.002 {
			t.Errorf("%v, not %v: %+v", x.got, x.want, l)
		}
	}
	if l.Messages != 2002 {
		t.Errorf("%+v", l)
	}
	if empty := latencyOf(newTally().latency); empty != (Latency{}) {
		t.Errorf("%+v of nothing", empty)
	}
}

// The ledger adds up to what a list would.
func TestLedger(t *testing.T) {
	t.Parallel()
	const messages, streams = 3*pageMessages + 17, 2
	l, rnd := newLedger(streams), rand.New(rand.NewPCG(1, 2))
	want := account{missing: make([]int64, streams)}
	if _, known := l.deliver(0, 0); known {
		t.Error("a message is known before the first was sent")
	}
	for n := range uint64(messages) {
		l.reach(n + 1)
		delivered := [streams]bool{rnd.IntN(3) == 0, rnd.IntN(3) == 0}
		for s, d := range delivered {
			if !d {
				continue
			}
			for _, before := range []bool{false, true} {
				if again, known := l.deliver(s, n); again != before || !known {
					t.Fatalf("message %d: again %v, known %v", n, again, known)
				}
			}
		}
		switch rnd.IntN(3) {
		case 0:
			l.confirm(n, 1)
			want.confirmed++
			for s, d := range delivered {
				if !d {
					want.missing[s]++
				}
			}
		case 1:
			l.refuse(n, 1)
			want.refused++
			if delivered[0] || delivered[1] {
				want.refusedDelivered++
			}
		}
	}
	got := account{missing: make([]int64, streams)}
	l.addTo(&got)
	if got.confirmed != want.confirmed || got.refused != want.refused || got.refusedDelivered != want.refusedDelivered || got.missing[0] != want.missing[0] || got.missing[1] != want.missing[1] {
		t.Errorf("%+v, not %+v", got, want)
	}
	if _, known := l.deliver(0, 100*pageMessages); known {
		t.Error("a message is known that was never sent")
	}
}

// However the bytes come, the lines are the same.
func TestLines(t *testing.T) {
	t.Parallel()
	var all bytes.Buffer
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		n := rnd.IntN(100)
		if rnd.IntN(20) == 0 {
			n = rnd.IntN(300_000)
		}
		all.WriteString(strings.Repeat("x", n) + "\n")
	}
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(all.Bytes()), "half": iotest.HalfReader(bytes.NewReader(all.Bytes())), "with the end": iotest.DataErrReader(bytes.NewReader(all.Bytes()))} {
		in := lines{r: r}
		var got []byte
		for {
			chunk, err := in.next()
			if err != nil {
				break
			}
			for len(chunk) > 0 {
				var line []byte
				line, chunk = cutLine(chunk)
				got = append(append(got, line...), '\n')
			}
		}
		if !bytes.Equal(got, all.Bytes()) {
			t.Errorf("%s: %d bytes, not %d, or not the same", name, len(got), all.Len())
		}
	}
}

// What is read quickly is read as package wire reads it, and what is not plain is left to it.
func TestQuickDelivery(t *testing.T) {
	t.Parallel()
	plain := wire.Delivery{Pushed: true, Sub: 12, Queue: "q.1", Seq: 34567, Attempt: 1, Receipt: []byte("1.2a"), Published: 1767323045123456789, Body: []byte(`"body"`)}
	for name, test := range map[string]struct {
		change func(*wire.Delivery)
		quick  bool
	}{
		"plain":       {func(*wire.Delivery) {}, true},
		"of a topic":  {func(d *wire.Delivery) { d.Topic = []byte("a.b") }, true},
		"again":       {func(d *wire.Delivery) { d.Attempt = 2 }, false},
		"redelivered": {func(d *wire.Delivery) { d.Redelivered = true }, false},
		"key":         {func(d *wire.Delivery) { d.Key = []byte("k") }, false},
		"headers":     {func(d *wire.Delivery) { d.Headers = []byte(`{"a":"b"}`) }, false},
		"dropped":     {func(d *wire.Delivery) { d.Dropped = 7 }, false},
		"an object":   {func(d *wire.Delivery) { d.Body = []byte(`{}`) }, false},
	} {
		m := plain
		test.change(&m)
		line := wire.AppendDelivery(nil, &m)
		quick, ok := quickDelivery(line)
		if ok != test.quick {
			t.Errorf("%s: quick is %v", name, ok)
		}
		if ok && (quick.sub != m.Sub || string(quick.queue) != m.Queue || string(quick.seq) != "34567" || string(quick.receipt) != "1.2a" || string(quick.body) != `"body"`) {
			t.Errorf("%s: %+v", name, quick)
		}
		var f wire.Frame
		c := &consumer{}
		slow, ok, err := c.other(line, &f)
		if !ok || err != nil || slow.sub != m.Sub || string(slow.seq) != "34567" || slow.repeated != (m.Attempt > 1 || m.Redelivered) || slow.dropped != m.Dropped || !bytes.Equal(slow.body, m.Body) {
			t.Errorf("%s: %+v, %v, %v", name, slow, ok, err)
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	a := &Report{Form: 1, Settings: settings(), OK: true, Server: Server{Address: "x:1", Version: "v1"}, Published: Flow{Messages: 1000, PerSecond: 500}, Confirm: Latency{P99Micro: 100}, CPU: CPU{ServerSeconds: 0.001}}
	b := &Report{}
	*b = *a
	b.Server.Address, b.Published.PerSecond, b.Confirm.P99Micro = "y:1", 1000, 50
	same := Compare(a, b)
	if len(same.Differ) != 0 {
		t.Errorf("%+v", same.Differ)
	}
	for name, want := range map[string]Row{"published/s": {A: 500, B: 1000, Ratio: 2}, "confirm p99 µs": {A: 100, B: 50, Ratio: 0.5}, "server cpu µs/message": {A: 1, B: 1, Ratio: 1}, "late": {}} {
		found := false
		for _, row := range same.Rows {
			if want.Name = name; row.Name == name {
				found = row == want
			}
		}
		if !found {
			t.Errorf("%s is not %+v: %+v", name, want, same.Rows)
		}
	}
	b.Settings.Window, b.Generator.Cores, b.Server.Version = 7, 3, "v2"
	var names []string
	for _, d := range Compare(a, b).Differ {
		names = append(names, d.Name+" "+d.A+" "+d.B)
	}
	if got := strings.Join(names, ", "); got != `settings.window 100 7, generator.cores 0 3, server.version "v1" "v2"` {
		t.Error(got)
	}
}

func TestReadReport(t *testing.T) {
	t.Parallel()
	for _, text := range []string{``, `{}`, `[]`, `{"form":2}`} {
		if _, err := ReadReport([]byte(text)); err == nil || !strings.Contains(err.Error(), "no report of gmq bench") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
