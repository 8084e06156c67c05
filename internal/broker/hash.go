package broker

import (
	"encoding/binary"

	"github.com/gmq/gmq/internal/queue"
)

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// shardOf is the shard of the queue of that name. A dead-letter queue lives with its
// source. The hash (FNV-1a) is part of the format: it must never change.
func shardOf(name []byte) int { return shardFrom(fnvOffset, stem(name)) }

// stem is what of a name is hashed.
func stem(name []byte) []byte {
	if n := len(name) - len(queue.DeadSuffix); n > 0 && string(name[n:]) == queue.DeadSuffix {
		return name[:n]
	}
	return name
}

// shardFrom is the shard of a name of which rest is behind what has been hashed to h.
func shardFrom(h uint64, rest []byte) int {
	for _, c := range rest {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return int((h ^ h>>32) % Shards)
}

// marks are the hashes of the beginnings of the name that was hashed last: of 8 bytes, 16, and so on, as far as they are known. Each byte
// has to wait for the one before it, and the names of many queues begin alike.
type marks struct {
	known int
	after [6]uint64
}

// shardOf is the shard of a name; last is the name for which it was called last.
func (m *marks) shardOf(name, last []byte) int {
	name = stem(name)
	n := 0
	for n < m.known && len(name) >= 8*n+8 && binary.LittleEndian.Uint64(name[8*n:]) == binary.LittleEndian.Uint64(last[8*n:]) {
		n++
	}
	h := uint64(fnvOffset)
	if n > 0 {
		h = m.after[n-1]
	}
	for ; n < len(m.after) && len(name) >= 8*n+8; n++ {
		for _, c := range name[8*n : 8*n+8] {
			h = (h ^ uint64(c)) * fnvPrime
		}
		m.after[n] = h
	}
	m.known = n
	return shardFrom(h, name[8*n:])
}
