package filejournal

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// Until says where a replay ends.
type Until struct {
	// Records is how many records are replayed, negative for all. Counted is what changes a state: the
	// records behind the snapshot of their shard, in the order of the log.
	Records int64
	// Before ends the replay in front of that place; 0 does not. No shard's
	// snapshot may be behind it: what it is made of cannot be taken out again.
	Before journal.Ref
	// Shard is the only one that is replayed and counted; negative for all.
	Shard int
}

// Played is what Play did.
type Played struct {
	Records   int64
	Snapshots int
	Last      journal.Ref // the last record that was replayed, 0 for none
	End       bool        // there was no further one
}

// playTries is how often Play begins anew when a server gives back what it has not read yet.
const playTries = 10

var errMoved = errors.New("filejournal: a server gives segments back faster than they are read; try again, or stop the server")

// Play replays the snapshots and the records of a directory into states, which it makes, up to where until
// says; it takes and changes nothing. At damage it ends, and the states are those in front of it.
func Play(fsys vfs.FS, dir string, until Until, states func(shard int) State) (Played, error) {
	for try := 1; ; try++ {
		out, err := play(fsys, dir, until, states)
		if !errors.Is(err, errMoved) || try == playTries {
			return out, err
		}
	}
}

func play(fsys vfs.FS, dir string, until Until, states func(shard int) State) (out Played, err error) {
	v, err := look(fsys, dir)
	if err != nil {
		return out, err
	}
	if until.Shard >= v.shards {
		return out, fmt.Errorf("%s has %d shards, no shard %d", dir, v.shards, until.Shard)
	}
	p := &player{view: v}
	if err := p.load(func(shard int) State {
		if until.Shard >= 0 && shard != until.Shard {
			return nil
		}
		return states(shard)
	}); err != nil {
		return out, err
	}
	for shard, st := range p.states {
		pos := p.bases[shard].pos
		if st != nil && pos != 0 {
			out.Snapshots++
		}
		if before := wal.Pos(until.Before); st != nil && before != 0 && pos > before {
			return out, fmt.Errorf("shard %d has a snapshot of %d:%d, in which all is that lies before; what it was at %d:%d cannot be known", shard, pos.Segment(), pos.Offset(), before.Segment(), before.Offset())
		}
	}
	stopped := false
	err = p.play(func(ref journal.Ref, _ uint8) bool {
		if stopped = out.Records == until.Records || until.Before != 0 && ref >= until.Before; stopped {
			return false
		}
		out.Records++
		out.Last = ref
		return true
	})
	out.End = !stopped
	return out, err
}

// player replays a view into states.
type player struct {
	*view
	states []State     // by shard; nil for those that are not wanted
	bases  []snapPlace // what each was loaded from
}

// load makes the states and loads their snapshots.
func (p *player) load(states func(int) State) error {
	p.states, p.bases = make([]State, p.shards), make([]snapPlace, p.shards)
	for i := range p.states {
		if p.states[i] = states(i); p.states[i] == nil {
			continue
		}
		if err := p.loadOne(i); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) loadOne(shard int) error {
	for p.snaps[shard].file != "" {
		base := p.snaps[shard]
		snap, err := readSnapshot(p.fs, base.file, p.wal.ID)
		if errors.Is(err, fs.ErrNotExist) { // a newer one has taken its place
			if err := p.list(); err != nil {
				return err
			}
			if p.snaps[shard] == base {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		p.bases[shard] = base
		m, isMarked := p.states[shard].(Marked)
		switch {
		case isMarked:
			err = m.LoadMarked(journal.Ref(base.pos), snap.head, snap.data)
		case len(snap.head) > 0:
			return fmt.Errorf("%s: %w", base.file, errReplica)
		default:
			err = p.states[shard].Load(snap.data)
		}
		if err != nil {
			return &wal.Damage{File: base.file, Why: fmt.Sprintf("it is whole, but cannot be loaded: %v", err)}
		}
		return nil
	}
	return nil
}

var errEnough = errors.New("as far as was asked")

// play applies the records behind the snapshots for which want holds, up to the first for which it does not.
func (p *player) play(want func(ref journal.Ref, shard uint8) bool) error {
	first := wal.Pos(1<<63 - 1)
	for i, st := range p.states {
		if st != nil {
			first = min(first, p.bases[i].pos)
		}
	}
	c := &checker{}
	c.walk = walk{view: p.view, damage: func(d *wal.Damage) error { return d }, frame: func(f wal.Frame) error {
		return c.records(f, func(ref journal.Ref, shard uint8, payload []byte) error {
			shard, mark := owner(shard)
			if shard == nobody || p.states[shard] == nil || wal.Pos(ref) < p.bases[shard].pos {
				return nil
			}
			m, isMarked := p.states[shard].(Marked)
			switch {
			case mark && !isMarked:
				return fmt.Errorf("%s: %w", p.dir, errReplica)
			case !want(ref, shard):
				return errEnough
			}
			var err error
			if isMarked {
				err = m.ApplyMarked(ref, mark, payload)
			} else {
				err = p.states[shard].Apply(ref, payload)
			}
			if err != nil {
				return &wal.Damage{File: p.wal.Name(ref.Segment()), Offset: int64(ref.Offset()), Why: fmt.Sprintf("the record is whole, but cannot be applied: %v", err)}
			}
			return nil
		})
	}}
	err := c.run(first.Segment())
	whole := err == nil || errors.Is(err, errEnough)
	if err == nil { // what was given back in the middle of its being read has been used again, and may have looked as if it ended there
		if lerr := c.list(); lerr != nil {
			return lerr
		}
		if !c.has(c.last) {
			return errMoved
		}
	}
	switch {
	case whole && !c.contiguous(max(first.Segment(), 1), err == nil):
		return errMoved // it was given back before it was read
	case errors.Is(err, errEnough):
		return nil
	}
	return err
}

// finish tells the states that there is no more. What one of them lacks is damage of the log's end.
func (p *player) finish() error {
	for shard, st := range p.states {
		m, isMarked := st.(Marked)
		if !isMarked {
			continue
		}
		if err := m.Finish(); err != nil {
			return &wal.Damage{File: p.wal.Name(p.numbers[len(p.numbers)-1]), Why: fmt.Sprintf("the log ends, and shard %d lacks something: %v", shard, err)}
		}
	}
	return nil
}

// contiguous reports whether all segments from first to the last one were walked.
func (w *walk) contiguous(first uint32, all bool) bool {
	last := w.last
	if n := len(w.began.numbers); all && n > 0 { // those at the end may have been given back as well
		last = max(last, w.began.numbers[n-1])
	}
	for n := first; n <= last; n++ {
		if _, there := w.ends[n]; !there {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[uint32]V) []uint32 { return slices.Sorted(maps.Keys(m)) }
