package queue

import "testing"

// BenchmarkRows is what following costs: a message's publishing and settling, applied to a state and to rows.
func BenchmarkRows(b *testing.B) {
	for _, c := range []struct {
		name  string
		apply func() func(Span, []byte) error
	}{
		{"state", func() func(Span, []byte) error {
			st := New(1)
			return func(s Span, r []byte) error { _, err := st.Apply(s, r); st.Spans(); return err }
		}},
		{"rows", func() func(Span, []byte) error {
			rows := NewRows()
			return func(s Span, r []byte) error { _, err := rows.Apply(s, r); return err }
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			apply, ref := c.apply(), Ref(100)
			do := func(r []byte) {
				if err := apply(Span{ref, uint32(len(r) + 12)}, r); err != nil {
					b.Fatal(err)
				}
				ref += Ref(len(r) + 12)
			}
			do(AppendCreate(nil, 2, 1, "q", &Settings{}))
			p := AppendPublish(nil, &Publish{Body: make([]byte, 100), Priority: DefaultPriority})
			Address(p, 2, 1)
			seq := uint64(0)
			for b.Loop() {
				seq++
				do(p)
				do(AppendSettle(nil, 2, 1, []uint64{seq}))
			}
		})
	}
}
