// Package spare keeps large buffers that nobody needs at the moment for those who need one next. To allocate a megabyte is
// dearer than to copy one: the system has to find and clear its pages, and the garbage collector has to run for it.
//
// It owns the buffers between Put and Get. It does not know what they are for. The garbage collector takes what is not used for a while.
package spare

import (
	"math/bits"
	"sync"
)

// Buffers of Least to most bytes are kept, in 32 sizes between one power of two and the next: a buffer is
// at most a 32nd larger than what was asked for.
const (
	Least = 64 << 10
	most  = 64 << 20

	stepBits = 5
	lowest   = 16 // Least is 1<<lowest
	octaves  = 10 // up to most
)

var pools [octaves << stepBits]sync.Pool

// place is the index of the size for n bytes, and that size.
func place(n int) (index, size int) {
	shift := bits.Len(uint(n-1)) - 1 - stepBits
	size = (((n - 1) >> shift) + 1) << shift
	return (shift+stepBits-lowest)<<stepBits + (n-1)>>shift&(1<<stepBits-1), size
}

// Get is an empty buffer with room for n bytes.
func Get(n int) []byte {
	if n <= Least || n > most {
		return make([]byte, 0, n)
	}
	i, size := place(n)
	if b, ok := pools[i].Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 0, size)
}

// Put takes a buffer that nobody will look at any more. Those that are not of a size that Get gives are dropped.
func Put(b []byte) {
	n := cap(b)
	if n <= Least || n > most {
		return
	}
	if i, size := place(n); size == n {
		b = b[:0]
		pools[i].Put(&b)
	}
}
