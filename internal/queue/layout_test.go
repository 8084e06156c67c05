package queue

import (
	"testing"
	"unsafe"
)

// What every message needs lies together: where many queues take turns, a field that moves out of these lines of memory
// costs every message the time that memory takes, and nothing else would tell.
func TestHotFieldsLieTogether(t *testing.T) {
	const line = 64
	var q Queue
	var c Consumer
	var ck chunk
	var f fewLeases
	for _, x := range []struct {
		what       string
		end, lines uintptr
	}{
		{"Queue.restored", unsafe.Offsetof(q.restored) + unsafe.Sizeof(q.restored), 1},
		{"Queue.chunks", unsafe.Offsetof(q.chunks) + unsafe.Sizeof(q.chunks), 2},
		{"Queue.Counts.Acked", unsafe.Offsetof(q.Counts) + unsafe.Offsetof(q.Counts.Acked) + unsafe.Sizeof(q.Counts.Acked), 3},
		{"Queue.Delivered", unsafe.Offsetof(q.Delivered) + unsafe.Sizeof(q.Delivered), 4},
		{"Queue.Settings.TTL", unsafe.Offsetof(q.Settings) + unsafe.Offsetof(q.Settings.TTL) + unsafe.Sizeof(q.Settings.TTL), 5},
		{"Consumer.aside", unsafe.Offsetof(c.aside) + unsafe.Sizeof(c.aside), 1},
		{"chunk.low", unsafe.Offsetof(ck.low) + unsafe.Sizeof(ck.low), 1},
		{"chunk", unsafe.Sizeof(ck), 2},
		{"the first of fewLeases", unsafe.Offsetof(f.at) + unsafe.Sizeof(f.at[0]), 1},
	} {
		if x.end > x.lines*line {
			t.Errorf("%s ends at byte %d, behind the first %d lines of memory", x.what, x.end, x.lines)
		}
	}
	if n := unsafe.Sizeof(f); n%line != 0 {
		t.Errorf("fewLeases has %d bytes, and does not fill lines of memory", n)
	}
}
