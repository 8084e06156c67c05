package queue

import "testing"

// Two ends of one delivery, both in flight, count one attempt: the second names a delivery that is over.
func TestReturnEndsADeliveryOnce(t *testing.T) {
	st := New(1)
	apply := func(record []byte) Outcome {
		out, err := st.Apply(Span{Ref: 1, Size: uint32(len(record))}, record)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	q := apply(AppendCreate(nil, st.NewID(), 1, "q", &Settings{})).Queue
	publish := appendPlain(nil, nil, []byte("1"), false, false)
	Address(publish, q.ID, 1)
	apply(publish)
	nack := AppendReturn(nil, q.ID, 2, []Return{{Seq: 1, Number: 1}, {Seq: 1, Number: 1}}, "nack", true, false)
	if out := apply(nack); out.N != 1 {
		t.Errorf("one delivery ended %d times", out.N)
	}
	apply(nack)
	if counted, number := q.Attempts(1); counted != 1 || number != 2 {
		t.Errorf("%d attempts, next delivery is number %d; want 1 and 2", counted, number)
	}
}
