package mysqljournal

import (
	"encoding/binary"
	"hash/crc32"
	"sort"
	"sync"

	"github.com/gmq/gmq/internal/journal"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of a message's record at its place.
func sum(ref journal.Ref, payload []byte) uint32 {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(ref))
	return crc32.Update(crc32.Checksum(at[:], castagnoli), castagnoli, payload)
}

// A block is the records of one transaction, one behind the other from base on.
type block struct {
	base journal.Ref
	data []byte
}

// payload is the record's that lies at ref, which is one of the block.
func (b *block) payload(ref journal.Ref) []byte {
	p, _ := journal.NextRecord(b.data, int(ref-b.base))
	return p
}

// cache is the records that were kept last: what is published is delivered soon, as a rule.
type cache struct {
	limit int64

	mu     sync.RWMutex // guards the following
	blocks []*block     // by base
	head   int          // those before are gone
	bytes  int64
}

// add takes up the newest block, and lets the oldest go.
func (c *cache) add(b *block) {
	if len(b.data) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = append(c.blocks, b)
	c.bytes += int64(cap(b.data))
	for c.bytes > c.limit && c.head < len(c.blocks)-1 {
		c.bytes -= int64(cap(c.blocks[c.head].data))
		c.blocks[c.head] = nil
		c.head++
	}
	if c.head > len(c.blocks)/2 {
		n := copy(c.blocks, c.blocks[c.head:])
		clear(c.blocks[n:])
		c.blocks, c.head = c.blocks[:n], 0
	}
}

// find is the block in which ref lies. hint is the one found last.
func (c *cache) find(ref journal.Ref, hint *block) *block {
	if hint.has(ref) {
		return hint
	}
	live := c.blocks[c.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].base > ref })
	if i > 0 && live[i-1].has(ref) {
		return live[i-1]
	}
	return nil
}

func (b *block) has(ref journal.Ref) bool {
	return b != nil && ref >= b.base && ref < b.base+journal.Ref(len(b.data))
}
