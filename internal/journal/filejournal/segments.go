package filejournal

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/wal"
)

// segment is what is known of one segment file. Number, size and shards do not
// change once it is in the table.
type segment struct {
	number uint32
	size   int64 // of the file
	used   atomic.Int64
	live   atomic.Int64 // bytes of retained records
	sealed atomic.Bool
	gone   atomic.Bool // its file is no longer this segment's

	// shards has a bit for each shard with records that Open found here.
	shards [4]uint64
	// runs says where in it the records of each shard lie; each entry is its
	// shard's from Open on. nil where there was not enough memory, or no need.
	runs []runs
}

// sparse reports whether less than half of it is live.
func (s *segment) sparse() bool { return s.sealed.Load() && s.live.Load()*2 < s.used.Load() }

// segments is the table of them. Reading it takes no lock, as every retained
// and released message does; a change makes a new table.
type segments struct {
	table atomic.Pointer[map[uint32]*segment]
	mu    sync.Mutex // of those who change it
}

func (t *segments) find(number uint32) *segment { return (*t.table.Load())[number] }

func (t *segments) add(s *segment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := maps.Clone(*t.table.Load())
	table[s.number] = s
	t.table.Store(&table)
}

func (t *segments) remove(gone []*segment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := maps.Clone(*t.table.Load())
	for _, s := range gone {
		delete(table, s.number)
	}
	t.table.Store(&table)
}

// sums adds up what lies on the disk, what of it was written, and what is live.
func (t *segments) sums() (size, used, live int64) {
	for _, s := range *t.table.Load() {
		size += s.size
		used += s.used.Load()
		live += s.live.Load()
	}
	return size, used, live
}

// before is what is used and what is live of the segments with lower numbers.
func (t *segments) before(number uint32) (used, live int64) {
	for _, s := range *t.table.Load() {
		if s.number < number {
			used += s.used.Load()
			live += s.live.Load()
		}
	}
	return used, live
}

// sorted lists the segments for which keep holds, the oldest first.
func (t *segments) sorted(keep func(*segment) bool) []*segment {
	var out []*segment
	for _, s := range *t.table.Load() {
		if keep(s) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *segment) int { return int(int64(a.number) - int64(b.number)) })
	return out
}

// cache holds the end of the log in memory, in windows that lie in order.
type cache struct {
	mu      sync.Mutex
	windows []*window
	bytes   int64
	limit   int64 // set before the first use
}

// window is a run of bytes of one segment. The committer alone writes behind
// end; what lies before never changes, and is not reused: readers may hold it.
type window struct {
	start wal.Pos
	data  []byte
	end   int // guarded by cache.mu
}

// add puts an empty window at the end, and lets the oldest go.
func (c *cache) add(w *window) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.windows = append(c.windows, w)
	c.bytes += int64(len(w.data))
	drop := 0
	for c.bytes > c.limit && drop < len(c.windows)-1 {
		c.bytes -= int64(len(c.windows[drop].data))
		drop++
	}
	c.windows = slices.Delete(c.windows, 0, drop)
}

// extend makes n more bytes of the window readable.
func (c *cache) extend(w *window, n int) {
	c.mu.Lock()
	w.end += n
	c.mu.Unlock()
}

// drop forgets the windows of segments that are gone.
func (c *cache) drop(gone []*segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.windows = slices.DeleteFunc(c.windows, func(w *window) bool {
		for _, s := range gone {
			if w.start.Segment() == s.number {
				c.bytes -= int64(len(w.data))
				return true
			}
		}
		return false
	})
}

// find is what is known of the bytes from pos on; nil where nothing is. Called with mu held.
func (c *cache) find(pos wal.Pos) []byte {
	i, ok := slices.BinarySearchFunc(c.windows, pos, func(w *window, p wal.Pos) int {
		switch {
		case w.start < p:
			return -1
		case w.start > p:
			return 1
		}
		return 0
	})
	if !ok {
		i--
	}
	if i < 0 {
		return nil
	}
	w := c.windows[i]
	if pos >= w.start+wal.Pos(w.end) {
		return nil
	}
	return w.data[pos-w.start : w.end : w.end]
}
