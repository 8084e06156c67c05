package filejournal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// A State is what the snapshot and the records of one shard add up to. Whoever
// makes one knows what they mean.
type State interface {
	Load(snapshot []byte) error
	Apply(ref journal.Ref, payload []byte) error
	// Refs calls fn for each record that the state refers to.
	Refs(fn func(journal.Span))
}

// A Marked is a State that knows what a consensus has in the log, too: so it can be made of a replica. All is said to it through
// these instead of Load and Apply.
type Marked interface {
	State
	// LoadMarked is given the snapshot, where there is one, and what was put in front of it.
	LoadMarked(pos journal.Ref, head, snapshot []byte) error
	ApplyMarked(ref journal.Ref, mark bool, payload []byte) error
	// Finish is called when there is no more.
	Finish() error
}

// Report is what Check found.
type Report struct {
	Shards    int
	Segments  int
	Frames    int
	Records   int
	Bytes     int64 // of the records' payloads
	Snapshots int

	// Torn is how many bytes at the log's end are not whole: they were being written when the
	// machine stopped, or are being written now. That is no damage: nobody was told that they are kept.
	Torn       int64
	TornFile   string
	TornOffset int64

	// Growing says that a server was writing meanwhile: what there was at the
	// beginning has been checked, but not whether the states need more than is there.
	Growing bool
	End     journal.Ref // where the log ended

	// Damage is every place found damaged, in the order of the files, the
	// first of each file.
	Damage []*wal.Damage
}

// Check verifies every frame, record and snapshot; and, where states makes
// them, that they can be restored and find all they refer to. It takes and
// changes nothing, and may look at a directory that a server is using. Damage is in the
// report; the error is for what could not be looked at.
func Check(fsys vfs.FS, dir string, states func(shard int) State) (Report, error) {
	if err := unfinished(fsys, dir); err != nil {
		return Report{}, err
	}
	return check(fsys, dir, states)
}

// check is Check also of what is unfinished.
func check(fsys vfs.FS, dir string, states func(shard int) State) (Report, error) {
	c := &checker{}
	v, err := lookAt(fsys, dir)
	if err = c.note(err); err != nil || v == nil {
		return c.report, err
	}
	c.walk = walk{view: v, frame: c.count, damage: func(d *wal.Damage) error { return c.note(d) }}
	c.report.Shards = v.shards
	newest := v.newest()
	if err := c.snapshots(); err != nil {
		return c.report, err
	}
	if err := c.run(1); err != nil {
		return c.report, err
	}
	c.report.Segments, c.report.End = len(c.ends), journal.Ref(c.end())
	short := c.end() < newest && len(c.report.Damage) == 0
	if short { // where a server goes on, what was read may be what it has given back since
		grown, err := c.grown()
		if err != nil {
			return c.report, err
		}
		short = !grown
	}
	if short {
		c.report.Damage = append(c.report.Damage, &wal.Damage{File: c.wal.Name(c.last), Offset: c.ends[c.last], Why: "the log ends here, before a snapshot that was written later"})
	}
	if c.torn.Cut > 0 {
		c.report.Torn, c.report.TornFile, c.report.TornOffset = c.torn.Cut, c.torn.CutFile, c.torn.End
	}
	if len(c.report.Damage) == 0 && states != nil {
		err = c.restore(states)
	}
	if grown, gerr := c.grown(); err == nil {
		c.report.Growing, err = grown, gerr
	}
	return c.report, err
}

type checker struct {
	walk
	report Report
	framer wal.Framer
}

// note puts damage into the report and lets other errors through.
func (c *checker) note(err error) error {
	if d, is := errors.AsType[*wal.Damage](err); is {
		c.report.Damage = append(c.report.Damage, d)
		return nil
	}
	return err
}

func (c *checker) snapshots() error {
	names, err := snapNames(c.fs, c.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		file := filepath.Join(c.dir, "snap", name)
		shard, _, ok := parseSnapName(name)
		if !ok || int(shard) >= c.shards {
			err = &wal.Damage{File: file, Why: "not a snapshot's name"}
		} else if _, err = readSnapshot(c.fs, file, c.wal.ID); err != nil {
			if _, gone := c.fs.Stat(file); errors.Is(gone, fs.ErrNotExist) {
				c.moved = true // a newer one has taken its place
				continue
			}
		}
		if err := c.note(err); err != nil {
			return err
		}
		c.report.Snapshots++
	}
	return nil
}

func (c *checker) count(f wal.Frame) error {
	c.report.Frames++
	return c.records(f, func(_ journal.Ref, _ uint8, payload []byte) error {
		c.report.Records++
		c.report.Bytes += int64(len(payload))
		return nil
	})
}

// records calls fn for the records of a frame.
func (c *checker) records(f wal.Frame, fn func(journal.Ref, uint8, []byte) error) error {
	for at := 0; at < len(f.Data); {
		pos := f.At() + wal.Pos(at)
		payload, shard, n, err := c.framer.Check(f.Data[at:], pos)
		if s, _ := owner(shard); err == nil && int(s) >= c.shards && s != nobody {
			err = fmt.Errorf("a record of shard %d, of %d", shard, c.shards)
		}
		if err != nil {
			return &wal.Damage{File: c.wal.Name(pos.Segment()), Offset: pos.Offset(), Why: err.Error()}
		}
		if err := fn(journal.Ref(pos), shard, payload); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// restore looks whether the states can be restored from what is there.
func (c *checker) restore(states func(int) State) error {
	v, err := lookAt(c.fs, c.dir)
	if err != nil {
		return err
	}
	p := &player{view: v}
	if err := p.load(states); err != nil {
		return c.note(err)
	}
	err = p.play(func(journal.Ref, uint8) bool { return true })
	if errors.Is(err, errMoved) {
		c.moved = true
		return nil
	}
	if err != nil {
		return c.note(err)
	}
	if grown, err := c.grown(); grown || err != nil {
		return err // a server may have given back what it no longer needs
	}
	if err := p.finish(); err != nil {
		return c.note(err)
	}
	for shard, st := range p.states {
		gone := map[uint32]int64{}
		st.Refs(func(s journal.Span) {
			end, there := c.ends[s.Ref.Segment()]
			if !there || int64(s.Ref.Offset())+int64(s.Size) > end {
				gone[s.Ref.Segment()] += int64(s.Size)
			}
		})
		c.report.Damage = append(c.report.Damage, c.lacking(shard, gone)...)
	}
	return nil
}

// lacking is the damage that a state needs bytes of segments that do not have them.
func (v *view) lacking(shard int, gone map[uint32]int64) (damage []*wal.Damage) {
	for _, n := range sortedKeys(gone) {
		why := "the file is missing"
		if v.has(n) {
			why = "records are missing"
		}
		damage = append(damage, &wal.Damage{File: v.wal.Name(n), Why: fmt.Sprintf("%s, though shard %d needs %d bytes of it", why, shard, gone[n])})
	}
	return damage
}

// Dump calls fn for every record that the log holds, garbage too, in order. It
// stops at the first damage, which is then its error. The payload is valid
// during the call. The shard is Nobody's for records that others refer to.
func Dump(fsys vfs.FS, dir string, fn func(ref journal.Ref, shard int, payload []byte) error) error {
	v, err := look(fsys, dir)
	if err != nil {
		return err
	}
	c := &checker{}
	c.walk = walk{view: v, damage: func(d *wal.Damage) error { return d }, frame: func(f wal.Frame) error {
		return c.records(f, func(ref journal.Ref, shard uint8, payload []byte) error {
			if _, mark := owner(shard); mark {
				return nil // it is no shard's: what it says is about the records behind it
			}
			if shard == nobody {
				return fn(ref, journal.Nobody, payload)
			}
			return fn(ref, int(shard), payload)
		})
	}}
	return c.run(1)
}
