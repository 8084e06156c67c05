package queue

// timer is one entry of timers: at its time, look at the message seq of queue (or the
// consumer seq, where queue is 0). Whether there is still something to do, the state knows.
type timer struct {
	at    int64
	seq   uint64
	queue uint32
	about uint32 // a delay: its number; an end: endsNow or 0
}

// timers is a heap by time. Entries are not taken out when they no longer
// matter: the caller counts those that do, and tidy throws the others away once they are the
// majority. So an entry costs O(1) amortized as long as times are added in about their order.
type timers struct {
	heap []timer
}

// next is the time of the earliest entry, or 0 where there is none.
func (t *timers) next() int64 {
	if len(t.heap) == 0 {
		return 0
	}
	return t.heap[0].at
}

func (t *timers) add(e timer) {
	t.heap = append(t.heap, e)
	h := t.heap
	for i := len(h) - 1; i > 0; {
		p := (i - 1) / 2
		if h[p].at <= h[i].at {
			break
		}
		h[p], h[i] = h[i], h[p]
		i = p
	}
}

func (t *timers) pop() timer {
	h := t.heap
	top := h[0]
	n := len(h) - 1
	h[0] = h[n]
	t.heap = shrink(h[:n])
	t.down(0)
	return top
}

func (t *timers) down(i int) {
	h := t.heap
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].at < h[c].at {
			c++
		}
		if h[i].at <= h[c].at {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

// tidy keeps the entries that matter when those that do are fewer than half.
func (t *timers) tidy(live int, matters func(timer) bool) {
	if len(t.heap) >= 2*live+1024 {
		t.keep(matters)
	}
}

// keep keeps the entries that matter.
func (t *timers) keep(matters func(timer) bool) {
	kept := t.heap[:0]
	for _, e := range t.heap {
		if matters(e) {
			kept = append(kept, e)
		}
	}
	kept = shrink(kept)
	t.heap = kept
	for i := len(kept)/2 - 1; i >= 0; i-- {
		t.down(i)
	}
}

// shrink gives memory back that is far more than s needs.
func shrink[T any](s []T) []T {
	if cap(s) > 4*len(s)+4096 {
		return append(make([]T, 0, 2*len(s)+512), s...)
	}
	return s
}

// seqHeap is a heap of sequence numbers, the smallest first.
type seqHeap []uint64

func (h *seqHeap) push(seq uint64) {
	s := append(*h, seq)
	*h = s
	for i := len(s) - 1; i > 0; {
		p := (i - 1) / 2
		if s[p] <= s[i] {
			break
		}
		s[p], s[i] = s[i], s[p]
		i = p
	}
}

func (h *seqHeap) pop() uint64 {
	s := *h
	top, n := s[0], len(s)-1
	s[0] = s[n]
	s = shrink(s[:n])
	*h = s
	for i := 0; ; {
		c := 2*i + 1
		if c >= n {
			return top
		}
		if c+1 < n && s[c+1] < s[c] {
			c++
		}
		if s[i] <= s[c] {
			return top
		}
		s[i], s[c] = s[c], s[i]
		i = c
	}
}
