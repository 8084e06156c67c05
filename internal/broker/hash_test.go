package broker

import (
	"math/rand/v2"
	"testing"
)

// TestMarks: a shard that was found from what names have in common is the one that the whole name has.
func TestMarks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var m marks
	var last []byte
	for range 200_000 {
		name := append([]byte(nil), last[:rnd.IntN(len(last)+1)]...)
		for range rnd.IntN(20) {
			name = append(name, "abcdefgh.dlq"[rnd.IntN(12)])
		}
		if rnd.IntN(3) == 0 {
			name = append(name, ".dlq"...)
		}
		if len(name) > 100 {
			name = name[rnd.IntN(50):]
		}
		if got, want := m.shardOf(name, last), shardOf(name); got != want {
			t.Fatalf("%q behind %q is in shard %d, should be %d", name, last, got, want)
		}
		last = name
	}
}
