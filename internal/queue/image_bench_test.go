package queue

import "testing"

// BenchmarkImage is what a deep queue costs that is all there: loading the state, taking over what there is, and looking what lacks. Per message.
func BenchmarkImage(b *testing.B) {
	const n = 1 << 20
	one := New(1)
	settings := testSettings()
	if _, err := one.Apply(Span{1, 100}, AppendCreate(nil, 2, start, "deep", &settings)); err != nil {
		b.Fatal(err)
	}
	rec := publishRecord(2, start, "a body of some bytes", false)
	for i := range n {
		if _, err := one.Apply(Span{Ref(i+1) << 7, uint32(len(rec) + 12)}, rec); err != nil {
			b.Fatal(err)
		}
		one.Spans()
	}
	snapshot := one.AppendSnapshot(nil)
	b.ReportMetric(float64(len(snapshot))/n, "B/message")
	for b.Loop() {
		st := one.Heir()
		if err := st.LoadImage(snapshot); err != nil {
			b.Fatal(err)
		}
		for a := st.Adopt(one, func(Ref) bool { return true }); !a.Next(1<<14, func([]Span) {}); {
		}
		if len(list(st, 1)) > 0 {
			b.Fatal("something lacks")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/message")
}
