package queue

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// A twin is a state whose records lie at places of its own.
type twin struct {
	*testing.T
	st      *State
	records map[Ref][]byte
	next    uint64
	live    map[Ref]uint32 // what is retained
	lived   Ref            // what the old state refers to lies before: some of that is gone, as after a restart; 0: nothing is
}

// here reports whether a record is there that the old state refers to.
func (w *twin) here(r Ref) bool { return r > w.lived || r>>20%5 != 0 }

func (w *twin) put(st *State, rec []byte) {
	w.next++
	span := Span{Ref(w.next << 20), uint32(len(rec)) + 12}
	w.records[span.Ref] = rec
	if _, err := st.Apply(span, rec); err != nil {
		w.Fatal(err)
	}
	for again := true; again; again = st.Owes() {
		retained, released := st.Spans()
		w.count(retained, 1)
		w.count(released, -1)
	}
}

// count keeps account of what lies here.
func (w *twin) count(spans []Span, sign int) {
	for _, s := range spans {
		if s.Ref&Foreign != 0 {
			continue
		}
		if w.live[s.Ref] += uint32(sign) * s.Size; w.live[s.Ref] == 0 {
			delete(w.live, s.Ref)
		}
	}
}

// list is all that a state lacks.
func list(st *State, most int) (wants []Want) {
	l := st.List()
	for !l.Next(1) {
	}
	for {
		some := l.Wants(nil, most)
		if len(some) == 0 {
			return wants
		}
		wants = append(wants, some...)
	}
}

// fetch writes what a state lacks, of at most so many records.
func (w *twin) fetch(st *State, from map[Ref][]byte, most int) {
	l := st.List()
	for !l.Next(1 + most) {
	}
	var wants []Want
	for ; most > 0; most-- {
		if len(wants) == 0 {
			if wants = l.Wants(wants[:0], most); len(wants) == 0 {
				return
			}
		}
		same := 1
		for same < len(wants) && wants[same].Span.Ref == wants[0].Span.Ref {
			same++
		}
		body := from[wants[0].Span.Ref]
		if same > 1 { // copies of one message go on sharing it
			w.put(st, body)
			at := w.next
			for _, want := range wants[:same] {
				w.put(st, AppendRebase(nil, want.Queue.ID, 0, want.Seq, int((w.next+1-at)<<20), len(body)+12, same))
			}
		} else {
			rec, err := AppendRelocate(nil, wants[0].Queue.ID, wants[0].Seq, body)
			if err != nil {
				w.Fatal(err)
			}
			w.put(st, rec)
		}
		wants = wants[same:]
	}
}

// TestImages: a state that was made of another node's snapshot, of what there was before, and of what was fetched, is that of a
// replica which has applied all records; and it refers to records of its own with the same bytes.
func TestImages(t *testing.T) {
	defer func(n uint64) { packBehind = n }(packBehind)
	packBehind = 0
	r := everything(t)
	taken := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		w := &twin{T: t, st: New(2), records: map[Ref][]byte{}, live: map[Ref]uint32{}}
		one := New(1)
		cuts := []int{rng.IntN(len(r.log)), rng.IntN(len(r.log)), rng.IntN(len(r.log))} // the old state, an image that came to nothing, the image
		slices.Sort(cuts)
		theirs := map[Ref][]byte{}
		var partial *State
		for i, rec := range r.log {
			if _, err := one.Apply(spanOf(i, rec), rec); err != nil {
				t.Fatal(err)
			}
			theirs[spanOf(i, rec).Ref] = rec
			switch {
			case i < cuts[0] || len(w.st.group) > 0:
				w.put(w.st, rec)
			case i >= cuts[1] && partial == nil && len(one.group) == 0:
				if seed%2 == 0 {
					w.lived = Ref(w.next << 20)
				}
				partial = w.image(one.AppendSnapshot(nil), w.st)
				w.fetch(partial, theirs, rng.IntN(20))
			case i >= cuts[2] && partial != nil && w.st != partial && len(one.group) == 0:
				w.take(one, partial, theirs)
				partial = w.st
			case w.st == partial:
				w.put(w.st, rec)
			}
		}
		if w.st != partial {
			continue
		}
		taken++
		now := max(one.now, w.st.now)
		if a, b := one.Digest(now), w.st.Digest(now); a != b {
			t.Fatalf("seed %d, cuts %v: the replicas differ:\n%s", seed, cuts, difference(dump(w.st), dump(one)))
		}
		if f := check(w.st); f != "" {
			t.Fatal(f)
		}
		for _, q := range w.st.Queues() {
			q.view(func(seq uint64, _ *chunk, m *msg) bool {
				if !w.here(m.ref) {
					t.Errorf("seed %d: message %d of %s refers to what is gone", seed, seq, q.Name)
				}
				if rec := w.records[m.ref]; len(rec)+12 != int(m.size) {
					t.Errorf("seed %d: message %d of %s has %d bytes at a place of %d", seed, seq, q.Name, m.size, len(rec)+12)
				}
				return true
			})
		}
		live := maps.Clone(w.live)
		w.st.Stakes(func(spans []Span) { w.count(spans, -1) })
		if len(w.live) > 0 {
			t.Fatalf("seed %d: of what is retained, %v, this is not referred to: %v", seed, live, w.live)
		}
	}
	if taken < 30 {
		t.Errorf("%d images were taken", taken)
	}
}

// image is a state made of a snapshot and of what another one has.
func (w *twin) image(snapshot []byte, old ...*State) *State {
	st := w.st.Heir()
	if err := st.LoadImage(snapshot); err != nil {
		w.Fatal(err)
	}
	for _, o := range old {
		for a := st.Adopt(o, w.here); !a.Next(1, func(spans []Span) { w.count(spans, 1) }); {
		}
	}
	return st
}

// take puts an image in the place of the state.
func (w *twin) take(one, partial *State, theirs map[Ref][]byte) {
	st := w.image(one.AppendSnapshot(nil), w.st, partial)
	lacks := len(list(st, 3))
	for _, old := range []*State{w.st, partial} {
		for _, q := range old.Queues() {
			q.view(func(seq uint64, _ *chunk, m *msg) bool {
				if to := st.ids[q.ID]; to != nil && m.ref&Foreign == 0 && w.here(m.ref) {
					if _, n := to.find(seq); n != nil && n.ref&Foreign != 0 {
						w.Errorf("message %d of %s is here, and is lacking", seq, q.Name)
					}
				}
				return true
			})
		}
	}
	w.fetch(st, theirs, lacks)
	if left := list(st, 1); len(left) > 0 {
		w.Errorf("all was fetched, and %v is lacking", left)
	}
	for _, old := range []*State{w.st, partial} {
		old.Stakes(func(spans []Span) { w.count(spans, -1) })
	}
	st.Resume(func([]Span) {})
	w.st = st
}

// TestForeignRefs: a snapshot that refers to yet another node's records is refused.
func TestForeignRefs(t *testing.T) {
	st := New(1)
	if err := st.LoadImage(everything(t).st.AppendSnapshot(nil)); err != nil {
		t.Fatal(err)
	}
	if err := New(1).LoadImage(st.AppendSnapshot(nil)); err == nil {
		t.Error("it is not refused")
	}
}
