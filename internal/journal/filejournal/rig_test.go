package filejournal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/journaltest"
	"github.com/gmq/gmq/internal/vfs"
)

// A rig drives a log through lives that end in crashes. What each shard was
// asked to do is kept in history, so that what a restart replays can be told
// to be exactly a beginning of it.
type rig struct {
	t     testing.TB
	rnd   *rand.Rand
	opt   Options
	hist  []*history
	log   *Log
	state []*state
}

// history is what a shard was asked to do.
type history struct {
	commands  []command
	ends      map[int]bool // the lengths at which a batch ends
	confirmed int          // so many commands were said to be kept
}

type command struct {
	drop bool
	id   uint64
	body []byte
}

// state is what a shard makes of its commands.
type state struct {
	h       *history
	j       journal.Journal
	woken   chan struct{}
	applied int
	things  map[uint64]thing
	waiting int // batches without outcome
	refused int
}

type thing struct {
	ref  journal.Ref
	size uint32
	sum  uint32
}

func newRig(t testing.TB, rnd *rand.Rand, opt Options) *rig {
	r := &rig{t: t, rnd: rnd, opt: opt}
	for range opt.Shards {
		r.hist = append(r.hist, &history{ends: map[int]bool{0: true}})
	}
	return r
}

// open opens the log and replays it; the error is that of either.
func (r *rig) open(fs vfs.FS) error { return r.openAt(fs, "/data") }

func (r *rig) openAt(fs vfs.FS, dir string) error {
	l, err := Open(fs, dir, r.opt)
	if err != nil {
		return err
	}
	r.log, r.state = l, nil
	for i := range r.hist {
		s := &state{h: r.hist[i], woken: make(chan struct{}, 1), things: map[uint64]thing{}}
		s.j = l.Shard(i, func() {
			select {
			case s.woken <- struct{}{}:
			default:
			}
		})
		r.state = append(r.state, s)
		if err := s.j.Replay(s.load, s.apply); err != nil {
			return errors.Join(err, r.log.Close())
		}
	}
	return nil
}

func (s *state) apply(ref journal.Ref, payload []byte) error {
	if len(payload) < 9 {
		return errors.New("a record is too short")
	}
	id := binary.LittleEndian.Uint64(payload[1:])
	old, had := s.things[id]
	s.applied++
	if had {
		s.j.Release([]journal.Span{{Ref: old.ref, Size: old.size}})
		delete(s.things, id)
	}
	if payload[0] == 0 {
		e := thing{ref: ref, size: uint32(len(payload) + journal.HeaderBytes), sum: crc32.ChecksumIEEE(payload)}
		s.things[id] = e
		s.j.Retain([]journal.Span{{Ref: e.ref, Size: e.size}})
	}
	return nil
}

func encode(c command) []byte {
	op := byte(0)
	if c.drop {
		op = 1
	}
	return append(binary.LittleEndian.AppendUint64([]byte{op}, c.id), c.body...)
}

func (s *state) propose(essential bool, commands ...command) {
	b := &journal.Batch{Essential: essential, Owner: commands}
	for _, c := range commands {
		start := len(b.Data)
		b.Data = append(journal.BeginRecord(b.Data), encode(c)...)
		journal.EndRecord(b.Data, start)
	}
	s.waiting++
	s.j.Propose(b)
}

// collect applies the outcomes that there are.
func (s *state) collect() error {
	for _, b := range s.j.Committed(nil) {
		s.waiting--
		if b.Err != nil {
			s.refused++
			continue
		}
		for at := 0; at < len(b.Data); {
			payload, next := journal.NextRecord(b.Data, at)
			if err := s.apply(b.Base+journal.Ref(at), payload); err != nil {
				return err
			}
			at = next
		}
		s.h.confirmed = s.applied
	}
	return nil
}

// drain waits for all outcomes, or for the log to fail.
func (s *state) drain() error {
	for s.waiting > 0 {
		if err := s.collect(); err != nil {
			return err
		}
		if err := s.j.Failed(); err != nil || s.waiting == 0 {
			return err
		}
		<-s.woken
	}
	return nil
}

// random proposes a batch that the history notes first.
func (s *state) random(rnd *rand.Rand, largest int) {
	var commands []command
	for range 1 + rnd.IntN(4) {
		c := command{id: rnd.Uint64N(40)}
		if c.drop = rnd.IntN(3) == 0; !c.drop {
			c.body = make([]byte, rnd.IntN(largest))
			for i := range c.body {
				c.body[i] = byte(rnd.Uint32())
			}
		}
		commands = append(commands, c)
	}
	s.h.commands = append(s.h.commands, commands...)
	s.h.ends[len(s.h.commands)] = true
	s.propose(false, commands...)
}

// compact does what the journal asks for. The moves go into the history too.
func (s *state) compact(must bool) error {
	c, ok := s.j.Compact()
	if !ok && !must {
		return nil
	}
	if err := s.drain(); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(s.things)) {
		e := s.things[id]
		if !ok || !c.Sparse(e.ref) {
			continue
		}
		p, err := s.j.Read([]journal.Ref{e.ref}, nil)
		if err != nil {
			return err
		}
		move := command{id: id, body: slices.Clone(p[0][9:])}
		s.h.commands = append(s.h.commands, move)
		s.h.ends[len(s.h.commands)] = true
		s.propose(true, move)
	}
	if err := s.drain(); err != nil {
		return err
	}
	s.snapshot()
	return nil
}

func (s *state) snapshot() {
	data := binary.LittleEndian.AppendUint64(nil, uint64(s.applied))
	for _, id := range slices.Sorted(maps.Keys(s.things)) {
		e := s.things[id]
		data = binary.LittleEndian.AppendUint64(data, id)
		data = binary.LittleEndian.AppendUint64(data, uint64(e.ref))
		data = binary.LittleEndian.AppendUint32(data, e.size)
		data = binary.LittleEndian.AppendUint32(data, e.sum)
	}
	journaltest.Snapshot(s.j, data)
}

func (s *state) load(data []byte) error {
	if len(data)%24 != 8 {
		return errors.New("a snapshot of a wrong length")
	}
	s.applied = int(binary.LittleEndian.Uint64(data))
	for data = data[8:]; len(data) > 0; data = data[24:] {
		e := thing{
			ref:  journal.Ref(binary.LittleEndian.Uint64(data[8:])),
			size: binary.LittleEndian.Uint32(data[16:]),
			sum:  binary.LittleEndian.Uint32(data[20:]),
		}
		s.things[binary.LittleEndian.Uint64(data)] = e
		s.j.Retain([]journal.Span{{Ref: e.ref, Size: e.size}})
	}
	return nil
}

// live does n random things; an error is that of the log's failure.
func (r *rig) live(n, largest int) error {
	for range n {
		s := r.state[r.rnd.IntN(len(r.state))]
		var err error
		switch r.rnd.IntN(12) {
		case 0:
			err = s.drain()
		case 1:
			err = s.collect()
		case 2:
			for _, s := range r.state {
				err = errors.Join(err, s.compact(false))
			}
		case 3:
			err = s.compact(r.rnd.IntN(8) == 0)
		default:
			s.random(r.rnd, largest)
		}
		if err = errors.Join(err, r.log.Failed()); err != nil {
			return err
		}
	}
	for _, s := range r.state {
		if err := s.drain(); err != nil {
			return err
		}
	}
	return nil
}

// verify checks that the replayed state is that after a beginning of the
// history, which ends between two batches and holds all that was confirmed;
// and that all that it retains can be read. What was not kept is forgotten.
func (r *rig) verify() error {
	for i, s := range r.state {
		if s.applied > len(s.h.commands) || !s.h.ends[s.applied] {
			return fmt.Errorf("shard %d: %d commands were kept, which is not the end of a batch", i, s.applied)
		}
		if s.applied < s.h.confirmed && r.opt.Sync {
			return fmt.Errorf("shard %d: %d commands were confirmed, %d are left", i, s.h.confirmed, s.applied)
		}
		want := map[uint64][]byte{}
		for _, c := range s.h.commands[:s.applied] {
			if delete(want, c.id); !c.drop {
				want[c.id] = encode(c)
			}
		}
		if len(want) != len(s.things) {
			return fmt.Errorf("shard %d: %d things, want %d", i, len(s.things), len(want))
		}
		for id, w := range want {
			p, err := s.j.Read([]journal.Ref{s.things[id].ref}, nil)
			if err != nil {
				return err
			}
			if string(p[0]) != string(w) {
				return fmt.Errorf("shard %d: thing %d is not what was written", i, id)
			}
		}
		s.h.commands = s.h.commands[:s.applied]
		s.h.confirmed = s.applied
		maps.DeleteFunc(s.h.ends, func(n int, _ bool) bool { return n > s.applied })
	}
	return nil
}
