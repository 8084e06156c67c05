package spare

import "testing"

// Every size fits, is hardly larger than asked for, and is its own size: what Get gives, Put takes to the same place.
func TestPlace(t *testing.T) {
	last := 0
	for n := Least + 1; n <= most; n += 1 + n/997 {
		i, size := place(n)
		again, same := place(size)
		switch {
		case size < n || size > n+n/32+1:
			t.Fatalf("%d bytes become %d", n, size)
		case again != i || same != size:
			t.Fatalf("%d bytes become %d at %d, and those %d at %d", n, size, i, same, again)
		case i < last || i >= len(pools):
			t.Fatalf("%d bytes are at %d, behind %d, of %d", n, i, last, len(pools))
		}
		last = i
	}
	if last != len(pools)-1 {
		t.Errorf("the last place used is %d of %d", last, len(pools))
	}
}

func TestGet(t *testing.T) {
	for _, n := range []int{0, 1, Least, Least + 1, 1 << 20, 1<<20 + 1, most, most + 1} {
		b := Get(n)
		if len(b) != 0 || cap(b) < n {
			t.Errorf("a buffer for %d has %d of %d", n, len(b), cap(b))
		}
		Put(append(b, 1)) // grown or not
		if b = Get(n); len(b) != 0 || cap(b) < n {
			t.Errorf("a buffer for %d then has %d of %d", n, len(b), cap(b))
		}
	}
}
