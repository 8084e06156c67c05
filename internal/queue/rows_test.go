package queue

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"
)

// A record is as long as it was and means the same when it has been a stub.
func TestStubs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	var records [][]byte
	for i := range 300 {
		p := Publish{Body: bytes.Repeat([]byte("b"), rnd.IntN(50)), Priority: DefaultPriority, Base64: rnd.IntN(3) == 0}
		if rnd.IntN(3) == 0 {
			p.Headers = []byte(`{"a":"b"}`)
		}
		if rnd.IntN(3) == 0 {
			p.Key, p.Delay = []byte("key"), time.Second
		}
		r := AppendPublish(nil, &p)
		Address(r, uint32(2+rnd.IntN(2)*2), int64(1000+i/10))
		switch rnd.IntN(6) {
		case 0:
			Void(r)
		case 1:
			r = AppendSettle(nil, 2, int64(i), []uint64{1, 2, 3})
		}
		records = append(records, r)
	}
	var stubs []byte
	var w, r Stubs
	bytes0 := 0
	for _, rec := range records {
		stubs = w.Append(stubs, rec)
		bytes0 += len(rec)
	}
	for i, rec := range records {
		got, rest, err := r.Read(stubs)
		if err != nil || len(got) != len(rec) {
			t.Fatalf("record %d: %d bytes, %d: %v", i, len(got), len(rec), err)
		}
		head, headers, body, ok := Parts(rec)
		if gh, gheaders, gbody, gok := Parts(got); ok != gok || string(gh) != string(head) || len(gheaders) != len(headers) || len(gbody) != len(body) {
			t.Fatalf("record %d: %v %q, not %v %q", i, gok, gh, ok, head)
		}
		if rec[0] != kindNoop && !ok && !bytes.Equal(got, rec) {
			t.Fatalf("record %d: %x, not %x", i, got, rec)
		}
		stubs = rest
	}
	if len(stubs) > 0 {
		t.Errorf("%d bytes are left", len(stubs))
	}
}

// Whatever the bytes, Read does not panic.
func FuzzStubs(f *testing.F) {
	var s Stubs
	r := AppendPublish(nil, &Publish{Body: []byte("1"), Priority: DefaultPriority})
	f.Add(s.Append(s.Append(s.Append(nil, r), r), AppendSettle(nil, 2, 1, []uint64{1})))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 8 && b[0] == stubVoid || bytes.ContainsAny(b, "\x80\x81\x82\xff") {
			return // may ask for as much memory as a record can have
		}
		var s Stubs
		for len(b) > 0 {
			var err error
			if _, b, err = s.Read(b); err != nil {
				return
			}
		}
	})
}

// What Rows says of the records adds up to what a state holds that has seen the same.
func TestRowsFollow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	st, rows := New(1), NewRows()
	table := map[string]RowChange{} // by queue and seq
	at, ref := int64(1), Ref(100)
	apply := func(record []byte) {
		t.Helper()
		at++
		binary.LittleEndian.PutUint64(record[8:], uint64(at))
		span := Span{Ref: ref, Size: uint32(len(record) + 12)}
		ref += Ref(span.Size)
		if _, err := st.Apply(span, record); err != nil {
			t.Fatal(err)
		}
		changes, err := rows.Apply(span, record)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			key, from := fmt.Sprint(c.Queue, c.Seq), fmt.Sprint(c.FromQueue, c.FromSeq)
			switch c.Op {
			case RowInsert:
				table[key] = c
			case RowUpdate:
				if _, ok := table[from]; !ok {
					t.Fatalf("%+v: there is no such row", c)
				}
				delete(table, from)
				table[key] = c
			case RowDelete:
				delete(table, key)
			}
		}
	}
	s := Settings{MaxDeliveries: 2, MaxMessages: 30, Overflow: DeadLetterIt}
	apply(AppendCreate(nil, 2, 0, "q", &s))
	s.MaxMessages = 0
	apply(AppendCreate(nil, 4, 0, "r", &s))
	for range 4000 {
		id := uint32(2 + 2*rnd.IntN(2))
		q := st.ids[id]
		seq := 1 + uint64(rnd.Int64N(int64(q.last+1)))
		switch rnd.IntN(8) {
		case 0, 1, 2:
			p := Publish{Body: []byte("12"), Priority: uint8(rnd.IntN(10)), Delay: time.Duration(rnd.IntN(2)) * time.Hour}
			r := AppendPublish(nil, &p)
			Address(r, id, at)
			apply(r)
		case 3:
			apply(AppendSettle(nil, id, 0, []uint64{seq}))
		case 4, 5:
			apply(AppendReturn(nil, id, 0, []Return{{Seq: seq, Due: at + int64(rnd.IntN(1000))}}, "why", rnd.IntN(2) == 0, rnd.IntN(4) == 0))
		case 6:
			apply(AppendMoveTo(nil, id, 0, seq, at+int64(rnd.IntN(1000))))
		case 7:
			if dq := st.names["q.dlq"]; dq != nil {
				apply(AppendRedrive(nil, dq.ID, 0, 0, []uint64{1 + uint64(rnd.Int64N(int64(dq.last+1)))}))
			}
		}
	}
	want := map[string]RowChange{}
	for name, q := range st.names {
		q.view(func(seq uint64, c *chunk, m *msg) bool {
			want[fmt.Sprint(name, seq)] = RowChange{Ref: m.ref, Queue: name, Seq: seq, Attempts: uint32(m.attempts)}
			return true
		})
	}
	if len(want) < 50 {
		t.Fatalf("%d messages are no test", len(want))
	}
	for key, c := range table {
		table[key] = RowChange{Ref: c.Ref, Queue: c.Queue, Seq: c.Seq, Attempts: c.Attempts}
	}
	if !maps.Equal(table, want) {
		t.Errorf("%d rows, %d messages, and they differ", len(table), len(want))
	}
	if a, b := st.AppendSnapshot(nil), rows.st.AppendSnapshot(nil); !bytes.Equal(a, b) {
		t.Error("the states differ")
	}
}

// What is untaken is as if nobody had had it.
func TestUntake(t *testing.T) {
	st := New(1)
	s := Settings{}
	ref := Ref(100)
	apply := func(record []byte) {
		span := Span{Ref: ref, Size: uint32(len(record) + 12)}
		ref += Ref(span.Size)
		if _, err := st.Apply(span, record); err != nil {
			t.Fatal(err)
		}
	}
	apply(AppendCreate(nil, 2, 1, "q", &s))
	for i := range 6 {
		p := Publish{Body: []byte("1"), Priority: DefaultPriority}
		if i%2 == 0 {
			p.Key = []byte("k")
		}
		r := AppendPublish(nil, &p)
		Address(r, 2, 1)
		apply(r)
	}
	q := st.Queue("q")
	c := &Consumer{Queue: q, Limit: 3, Lease: time.Second}
	st.Subscribe(c)
	take := func() (all []Delivery) {
		for d, ok := st.Take(1); ok; d, ok = st.Take(1) {
			all = append(all, d)
		}
		return all
	}
	first := take()
	if len(first) != 3 { // one of the key, two others
		t.Fatalf("%+v", first)
	}
	for i := len(first) - 1; i >= 0; i-- {
		st.Untake(&first[i])
	}
	if q.Counts.Ready != 6 || q.Counts.Leased != 0 || q.Delivered != 0 || c.Leased() != 0 || st.Leased() != 0 {
		t.Errorf("%+v, %d delivered", q.Counts, q.Delivered)
	}
	again := take()
	if fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("%+v\nwas\n%+v", again, first)
	}
	st.Expired(2, func(*Queue, uint64) { t.Error("a lease that was undone has ended") })
}
