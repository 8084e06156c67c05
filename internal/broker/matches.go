package broker

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
)

// knownMatches are topics of which it is known what is bound to them: each has one place, by its hash. Publishes of all sessions look there
// before they ask the tree, which takes a lock that all of them write to. Who has looked a topic up puts it there, for everybody.
type knownMatches [matchPlaces]atomic.Pointer[knownMatch]

const (
	matchPlaces = 1 << 13
	// matchQueues is how many queues are remembered of a topic: to make more copies costs far more than to look them up.
	matchQueues = 4
	// matchPatience is for how many others that would have its place a topic stays, so that where there are more topics than places not each of
	// them makes garbage.
	matchPatience = 8
)

// A knownMatch is what was bound to a topic at a version of the tree. It never changes, but for passed.
type knownMatch struct {
	topic   string
	version uint64
	bound   []*bound
	passed  atomic.Uint32 // others that would have had its place
}

func (k *knownMatches) place(topic []byte) *atomic.Pointer[knownMatch] {
	h := uint64(len(topic))
	for len(topic) >= 8 {
		h = (h ^ binary.LittleEndian.Uint64(topic)) * 0x9e3779b97f4a7c15
		h ^= h >> 32
		topic = topic[8:]
	}
	for _, c := range topic {
		h = (h ^ uint64(c)) * fnvPrime
	}
	h *= 0x9e3779b97f4a7c15
	return &k[h>>(64-13)]
}

// match is what is bound to a topic. The slice is good until the next call.
func (in *Intake) match(topic []byte) []*bound {
	t := &in.s.b.topics
	v := t.version.Load()
	if string(in.topic) == string(topic) && v == in.topicVersion {
		return in.matched
	}
	place := t.known.place(topic)
	k := place.Load()
	if k != nil && k.version == v && k.topic == string(topic) {
		return k.bound
	}
	in.topic, in.topicVersion = append(in.topic[:0], topic...), v
	in.matched = t.match(topic, in.matched[:0])
	if len(in.matched) <= matchQueues && (k == nil || k.version != v || k.passed.Add(1) >= matchPatience) {
		place.Store(&knownMatch{topic: string(topic), version: v, bound: slices.Clone(in.matched)})
	}
	return in.matched
}
