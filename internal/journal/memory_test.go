package journal_test

import (
	"errors"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/journaltest"
)

func TestMemorySuite(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) *journaltest.Harness {
		budget := journal.NewBudget(0)
		return &journaltest.Harness{
			Shards:  4,
			Journal: func(i int, wake func()) journal.Journal { return journal.NewMemory(budget, wake) },
			Close: func() error {
				if used := budget.Used(); used != 0 {
					t.Errorf("%d bytes of the budget are used after all is closed", used)
				}
				return nil
			},
		}
	})
}

func record(data []byte, payload []byte) []byte {
	start := len(data)
	data = append(journal.BeginRecord(data), payload...)
	journal.EndRecord(data, start)
	return data
}

func TestMemoryBudget(t *testing.T) {
	budget := journal.NewBudget(1 << 20)
	a, b := journal.NewMemory(budget, func() {}), journal.NewMemory(budget, func() {})
	var spans []journal.Span
	var got []*journal.Batch
	for range 200 {
		batch := &journal.Batch{Data: record(nil, make([]byte, 10000))}
		a.Propose(batch)
		got = a.Committed(got[:0])
		if got[0].Err != nil {
			break
		}
		span := journal.Span{Ref: batch.Base, Size: uint32(len(batch.Data))}
		spans = append(spans, span)
		a.Retain(spans[len(spans)-1:])
	}
	if !errors.Is(got[0].Err, journal.ErrMemoryFull) || len(spans) < 90 || len(spans) > 104 {
		t.Fatalf("after %d batches: %v", len(spans), got[0].Err)
	}
	// The other one shares the budget, but what is essential goes on.
	b.Propose(&journal.Batch{Data: record(nil, make([]byte, 50000))})
	b.Propose(&journal.Batch{Data: record(nil, nil), Essential: true})
	got = b.Committed(got[:0])
	if !errors.Is(got[0].Err, journal.ErrMemoryFull) || got[1].Err != nil {
		t.Fatalf("%v, %v", got[0].Err, got[1].Err)
	}
	a.Release(spans)
	a.Committed(nil)
	b.Propose(&journal.Batch{Data: record(nil, make([]byte, 50000))})
	if got = b.Committed(got[:0]); got[0].Err != nil {
		t.Fatal(got[0].Err)
	}
	if total, live := a.Used(); total > 64<<10 || live != 0 { // the window that is being filled
		t.Errorf("%d bytes, %d live, though nothing is retained", total, live)
	}
}

// What nobody retains is let go once the owner is done with it.
func TestMemoryForgets(t *testing.T) {
	budget := journal.NewBudget(1 << 20)
	m := journal.NewMemory(budget, func() {})
	var got []*journal.Batch
	for i := range 100_000 {
		n := 100
		if i%100 == 0 {
			n = 5000
		}
		m.Propose(&journal.Batch{Data: record(nil, make([]byte, n))})
		if i%50 == 0 {
			got = m.Committed(got[:0])
			for _, b := range got {
				if b.Err != nil {
					t.Fatal(b.Err)
				}
			}
		}
	}
	m.Committed(nil)
	m.Committed(nil)
	if total, _ := m.Used(); total > 64<<10 {
		t.Errorf("%d bytes are held", total)
	}
	if err := m.Close(); err != nil || budget.Used() != 0 {
		t.Errorf("%v, %d", err, budget.Used())
	}
}

// A batch that was kept as it is must not be reused, one that was copied may.
func TestMemoryRecycle(t *testing.T) {
	m := journal.NewMemory(journal.NewBudget(0), func() {})
	for _, c := range []struct {
		n, extra int
		want     bool
	}{{100, 0, true}, {10000, 0, true}, {200_000, 0, false}, {200_000, 400_000, true}} {
		b := &journal.Batch{Data: record(make([]byte, 0, c.n+journal.HeaderBytes+c.extra), make([]byte, c.n))}
		m.Propose(b)
		m.Committed(nil)
		m.Retain([]journal.Span{{Ref: b.Base, Size: uint32(len(b.Data))}})
		if got := m.Recycle(b); got != c.want {
			t.Errorf("%+v: Recycle says %v", c, got)
		} else if got {
			clear(b.Data)
		}
		if p, err := m.Read([]journal.Ref{b.Base}, nil); err != nil || len(p[0]) != c.n {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func BenchmarkMemory(b *testing.B) {
	m := journal.NewMemory(journal.NewBudget(0), func() {})
	payload := make([]byte, 128)
	const group = 64
	batch := &journal.Batch{}
	var done []*journal.Batch
	var spans, held []journal.Span
	b.SetBytes(128)
	b.ReportAllocs()
	for i := 0; i < b.N; i += group {
		if m.Recycle(batch) {
			batch.Data = batch.Data[:0]
		} else {
			batch.Data = make([]byte, 0, group*(128+journal.HeaderBytes))
		}
		spans = spans[:0]
		for range group {
			spans = append(spans, journal.Span{Ref: journal.Ref(len(batch.Data)), Size: 128 + journal.HeaderBytes})
			batch.Data = record(batch.Data, payload)
		}
		m.Propose(batch)
		done = m.Committed(done[:0])
		for k := range spans {
			spans[k].Ref += batch.Base
		}
		m.Retain(spans)
		m.Release(held)
		held = append(held[:0], spans...)
	}
}

// TestReplicaBudget: where the budget of several replicas is nearly used up, what is given up is had back by a snapshot, though most is live.
func TestReplicaBudget(t *testing.T) {
	budget := journal.NewBudget(4 << 20)
	m := journal.NewMemoryReplica(budget, func() {})
	m.Settle()
	var spans []journal.Span
	for !m.Scarce() {
		batch := &journal.Batch{Data: record(nil, make([]byte, 10000))}
		m.Append(batch)
		spans = append(spans, journal.Span{Ref: batch.Base, Size: uint32(len(batch.Data))})
		m.Retain(spans[len(spans)-1:])
	}
	m.Kept(nil)
	if _, wished := m.Compact(); wished {
		t.Fatal("it wishes for a compaction where there is no garbage")
	}
	m.Release(spans[:len(spans)/4])
	if _, wished := m.Compact(); !wished {
		t.Fatal("a quarter is garbage, there is no room, and it wishes for nothing")
	}
	end, _ := m.End()
	m.SnapshotAt(end, []byte{}, nil).Commit()
	if m.Scarce() {
		t.Errorf("%d of %d bytes are used", budget.Used(), budget.Limit())
	}
	if err := m.Close(); err != nil || budget.Used() != 0 {
		t.Errorf("%v; %d bytes are used in the end", err, budget.Used())
	}
}
