package queue

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What a later version wrote is refused for its version, before anything in it is taken for what this one knows.
func TestUnknownSnapshotTakesNothing(t *testing.T) {
	r := newRig(t)
	r.apply(AppendDocument(nil, r.now, "a", []byte("one")))
	snap := r.st.AppendSnapshot(nil)
	for _, version := range []byte{0, snapshotVersion + 1, 255} {
		snap[0] = version
		st := New(1)
		if err := st.LoadSnapshot(snap); err == nil || len(st.DocumentNames()) != 0 {
			t.Errorf("version %d: %v, and documents %q", version, err, st.DocumentNames())
		}
	}
}

func TestDocuments(t *testing.T) {
	r := newRig(t)
	s := testSettings()
	empty := r.st.AppendSnapshot(nil)
	if empty[0] != snapshotVersion {
		t.Errorf("a state without documents is written as version %d, which an older program cannot read", empty[0])
	}
	r.apply(AppendCreate(nil, r.st.NewID(), r.now, "orders", &s))
	r.apply(publishRecord(2, r.now, "x", false))
	for _, d := range []struct {
		name, data string
		n          int
		refusal    Refusal
	}{
		{"b", "two", 1, Done}, {"a", "one", 1, Done}, {"b", "2", 1, Done}, {"c", "three", 1, Done}, {"c", "", 1, Done}, {"c", "", 0, Done},
		{"", "x", 0, TooManyDocuments}, {strings.Repeat("n", MaxDocumentName+1), "x", 0, TooManyDocuments},
		{"d", strings.Repeat("x", MaxDocument+1), 0, TooManyDocuments},
	} {
		if out := r.apply(AppendDocument(nil, r.now, d.name, []byte(d.data))); out.N != d.n || out.Refusal != d.refusal {
			t.Errorf("%.10q = %.10q: %+v", d.name, d.data, out)
		}
	}
	r.snapshot()
	for _, snapshot := range []bool{true, false} {
		before := r.st.AppendSnapshot(nil)
		r.restart(snapshot)
		if got := r.st.DocumentNames(); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("snapshot %v: documents %q", snapshot, got)
		}
		if string(r.st.Document("b")) != "2" || r.st.Document("c") != nil || r.st.Queue("orders").Counts.Live() != 1 {
			t.Errorf("snapshot %v: b is %q, c is %q", snapshot, r.st.Document("b"), r.st.Document("c"))
		}
		if !bytes.Equal(before, r.st.AppendSnapshot(nil)) {
			t.Errorf("snapshot %v: the state is another", snapshot)
		}
	}
}

// The sum of all is bounded, and what is taken away makes room again.
func TestDocumentsAreBounded(t *testing.T) {
	st := New(1)
	data := bytes.Repeat([]byte("x"), MaxDocument)
	put := func(i int, data []byte) Refusal {
		t.Helper()
		out, err := st.Apply(Span{1, 1}, AppendDocument(nil, 1, fmt.Sprint(i), data))
		if err != nil {
			t.Fatal(err)
		}
		return out.Refusal
	}
	n := 0
	for put(n, data) == Done {
		n++
	}
	if n*MaxDocument > MaxDocumentsSum || n < MaxDocumentsSum/MaxDocument-1 {
		t.Errorf("%d documents of %d bytes were taken", n, MaxDocument)
	}
	if put(0, data) != Done {
		t.Error("a document cannot be changed where there is no room for another one")
	}
	if put(0, nil) != Done || put(n, data) != Done || put(n+1, data) == Done {
		t.Error("a document that is gone takes room")
	}
	loaded := New(1)
	if err := loaded.LoadSnapshot(st.AppendSnapshot(nil)); err != nil || loaded.docs.sum != st.docs.sum {
		t.Errorf("loaded: %d bytes, %v; should be %d", loaded.docs.sum, err, st.docs.sum)
	}
}

func TestDescribeTellsNoSecrets(t *testing.T) {
	p := Publish{Headers: []byte(`{"h":"canary"}`), Body: []byte(`"canary"`)}
	moved, err := AppendRelocate(nil, 2, 1, AppendPublish(nil, &p))
	if err != nil {
		t.Fatal(err)
	}
	p.Topic = []byte("t")
	for _, record := range [][]byte{AppendDocument(nil, 1, "users", []byte("canary")), AppendPublish(nil, &p), moved} {
		text, err := Describe(record, false)
		if err != nil || strings.Contains(text, "canary") {
			t.Errorf("%s, %v", text, err)
		}
	}
	if text, _ := Describe(AppendDocument(nil, 1, "users", []byte("canary")), true); strings.Contains(text, "canary") {
		t.Error(text)
	}
}
