package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Replicas apply the same records, and each lets its own messages lie somewhere else when it suits it: they agree on all the
// rest, and one that has led and follows now agrees with one that has only followed.
func TestReplicasAgree(t *testing.T) {
	r := everything(t)
	big := make([]byte, 70_000) // headers and options of more bytes than msg.over has room for
	for i := range big {
		big[i] = 'h'
	}
	rec := appendPlain(nil, fmt.Appendf(nil, `{"n":"%s"}`, big), []byte("small"), false, false)
	id := r.st.Queue("options").ID
	Address(rec, id, r.now)
	r.apply(rec)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		one, two := New(1), New(2)
		records := map[Ref][]byte{} // of the second, by place: it moves them
		c := &Consumer{Limit: 1 << 20, Lease: 1e9}
		place := uint64(1)
		put := func(st *State, rec []byte) {
			span := Span{Ref(place << 20), uint32(len(rec)) + 12}
			place++
			if _, err := st.Apply(span, rec); err != nil {
				t.Fatal(err)
			}
			records[span.Ref] = rec
		}
		for i, rec := range r.log {
			if _, err := one.Apply(spanOf(i, rec), rec); err != nil {
				t.Fatal(err)
			}
			put(two, rec)
			if qs := two.Queues(); rng.IntN(3) == 0 && len(qs) > 0 && len(two.group) == 0 {
				q := qs[rng.IntN(len(qs))]
				seq := 1 + rng.Uint64N(q.last+1)
				if _, m := q.find(seq); m != nil {
					moved, err := AppendRelocate(nil, q.ID, seq, records[m.ref])
					if rng.IntN(2) == 0 { // as for what several queues share: another record with the same bytes, and a later time
						size, body := m.size, slices.Clone(records[m.ref])
						body[0] = kindBody
						put(two, body)
						moved = AppendRebase(nil, q.ID, two.now+1e15, seq, 1<<20, int(size), 1)
					}
					if err != nil {
						t.Fatal(err)
					}
					put(two, moved)
				}
			}
			if rng.IntN(5) == 0 && one.Queue("orders") != nil { // the first one leads for a while
				one.Lead(uint32(i))
				c = &Consumer{Queue: one.Queue("orders"), Limit: 1 << 20, Lease: 1e9}
				one.Subscribe(c)
				for range rng.IntN(10) {
					one.TakeFor(c, one.now)
				}
				one.Follow()
			}
		}
		q := two.ids[id]
		_, m := q.find(q.last)
		moved, err := AppendRelocate(nil, id, q.last, records[m.ref])
		if err != nil {
			t.Fatal(err)
		}
		put(two, moved)
		now := max(one.now, two.now)
		if a, b := one.Digest(now), two.Digest(now); a != b {
			t.Fatalf("seed %d: the replicas differ:\n%s", seed, difference(dump(two), dump(one)))
		}
		if f := check(one) + check(two); f != "" {
			t.Fatal(f)
		}
	}
}

// TestRefusedEnd: a message whose time is over is kept from consumers while its end, which was refused, is to be proposed again by this owner or by the next one.
func TestRefusedEnd(t *testing.T) {
	r := newRig(t)
	s := testSettings()
	s.TTL = time.Second
	r.apply(AppendCreate(nil, r.st.NewID(), r.now, "a", &s))
	r.apply(publishRecord(2, r.now, "x", false))
	q := r.st.Find([]byte("a"))
	over := func(after time.Duration) (seqs []uint64) {
		r.st.Outlived(r.now+int64(after), func(_ *Queue, seq uint64) { seqs = append(seqs, seq) })
		return seqs
	}
	taken := func() int {
		c := &Consumer{Queue: q, Limit: 10, Lease: time.Minute}
		r.st.Subscribe(c)
		defer r.st.Unsubscribe(c)
		n := 0
		for ok := true; ok; n++ {
			_, ok = r.st.Take(r.now + int64(2*time.Second))
		}
		return n - 1
	}
	if got := over(2 * time.Second); len(got) != 1 {
		t.Fatalf("%d messages have outlived", len(got))
	}
	r.st.Retry(q, 1, r.now+int64(3*time.Second))
	if n := taken(); n != 0 {
		t.Errorf("%d messages are given out whose time is over", n)
	}
	if early, late := over(2*time.Second), over(4*time.Second); len(early) != 0 || len(late) != 1 {
		t.Errorf("its end is proposed again for %v before that time, and for %v behind it", early, late)
	}
	if f := check(r.st); f != "" {
		t.Error(f)
	}
}
