package filejournal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/internal/wal"
)

// A Mender is a State that can be had without some of its records.
type Mender interface {
	State
	// Guess is Apply for a record of which only the place, the length and the shard are certain. It
	// reports whether what can be read says what the record does to the state, but for the bytes that it
	// keeps; where it is false the state is as it was.
	Guess(ref journal.Ref, payload []byte) bool
	// Snapshot is the state's snapshot, and what it refers to in places for which in holds.
	Snapshot(in func(journal.Ref) bool) (data []byte, kept []Kept)
	// Move appends a record that lets the state refer to that record instead; payload is what it keeps.
	Move(dst []byte, k Kept, payload []byte) ([]byte, error)
	// Drop appends a record by which the state does without.
	Drop(dst []byte, k Kept) []byte
	// Beyond tells of a record that is whole, but behind something that is lost: it is left out. It is
	// called after Snapshot, and nothing else is then.
	Beyond(ref journal.Ref, payload []byte)
}

// Kept is a record that a state refers to.
type Kept struct {
	journal.Span
	Owner any // the mender's
}

// RepairOptions say how a directory is repaired.
type RepairOptions struct {
	// Menders makes the state of a shard.
	Menders func(shard int) Mender
	// Shards is how many there are where the directory does not say it any more.
	Shards int
	// SegmentBytes is as in Options.
	SegmentBytes int64
	// Aside is the name of a directory, made in the directory, for what is taken out.
	Aside string
	// Do says that the repair is wanted; else it is only said what it would do.
	Do bool
}

// Repaired is what Repair has found, and what it did or would do.
type Repaired struct {
	Finished bool   // a repair that had been interrupted was brought to its end, and nothing else
	Aside    string // where Moved is
	Damage   []*wal.Damage
	Mended   []*wal.Damage // those of it that were put right: no byte of it is lost
	Moved    []string      // files taken out of the directory, as they were
	Cuts     []Cut
	Lost     []Lost
	Copied   int64  // bytes that are written anew
	EndLost  string // why there may have been records behind the end of the log, of which nothing is known

	// Torn is what was being written when the machine stopped; nobody was told that it is kept.
	Torn int64
}

// Needed reports whether there is anything to repair.
func (r *Repaired) Needed() bool { return len(r.Damage) > 0 }

// A Cut is the end of a shard's records: those behind it cannot be applied, as something before them is lost.
type Cut struct {
	Shard int
	At    journal.Ref
	Why   string
	Left  int    // records behind it that are whole; they are in the files that were moved
	Empty bool   // nothing at all is left of the shard
	State Mender // the shard\'s; it was told of them
}

// Lost is a record that a state refers to and that is not there any more.
type Lost struct {
	Shard int
	Kept
	Why string
}

// Repair makes a damaged directory one that opens. It loses no more than it must, says what that is, and deletes
// nothing: files with damage, and those that hold what is left out, are moved aside as they are.
//
// Each shard gets a new snapshot: of its state behind its last record that nothing lost lies before. What the
// state refers to in files that are moved is written anew.
func Repair(fsys vfs.FS, dir string, opt RepairOptions) (out *Repaired, err error) {
	if opt.SegmentBytes <= 0 {
		opt.SegmentBytes = Options{}.withDefaults().SegmentBytes
	}
	if _, err := fsys.ReadDir(filepath.Join(dir, "wal")); err != nil {
		return nil, err // not to leave a lock where there is no journal
	}
	lock, err := fsys.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	out = &Repaired{Aside: filepath.Join(dir, opt.Aside)}
	if finished, err := finishRepair(fsys, dir, opt.Do); finished || err != nil {
		out.Finished = finished
		return out, err
	}
	r := &repairer{fs: fsys, dir: dir, opt: opt, out: out, segs: map[uint32]*part{}}
	r.fs = &holedFS{FS: fsys, note: r.unreadable}
	if err := r.survey(); err != nil {
		return out, err
	}
	if !out.Needed() || !opt.Do {
		return out, nil
	}
	r.fs = fsys
	if err := r.rebuild(); err != nil {
		return out, err
	}
	report, err := Check(fsys, dir, func(shard int) State { return opt.Menders(shard) })
	if err == nil && len(report.Damage) > 0 {
		err = fmt.Errorf("the repaired journal is not whole: %w", report.Damage[0])
	}
	return out, err
}

// repairer is a repair under way.
type repairer struct {
	fs      vfs.FS
	dir     string
	opt     RepairOptions
	out     *Repaired
	id      identity
	renew   bool // VERSION is to be written anew
	wal     wal.Dir
	snaps   []oldSnap
	strays  []string // files with names that none has
	shards  []*mending
	numbers []uint32
	segs    map[uint32]*part
	now     uint32 // the segment being looked at
	highest uint32 // no number up to here is used for a new segment
	proven  wal.Pos
}

// part is what has been found out about a segment.
type part struct {
	aside   bool // it is moved aside
	foreign bool
	end     int64
	file    vfs.File // open for reading records
}

// mending is a shard's state on its way.
type mending struct {
	Mender
	number   uint8
	base     wal.Pos
	cut      *Cut
	snapshot []byte
	kept     []Kept
}

func (r *repairer) damage(file string, offset int64, why string) *wal.Damage {
	d := &wal.Damage{File: file, Offset: offset, Why: why}
	r.out.Damage = append(r.out.Damage, d)
	return d
}

func (r *repairer) unreadable(file string, offset int64, err error) {
	for _, d := range r.out.Damage {
		if d.File == file && d.Offset == offset {
			return
		}
	}
	r.damage(file, offset, "it cannot be read: "+err.Error())
}

// survey finds out what is there, and what becomes of it. It changes nothing.
func (r *repairer) survey() error {
	if err := r.listSegments(); err != nil {
		return err
	}
	if err := r.identify(); err != nil {
		return err
	}
	if err := r.listSnapshots(); err != nil {
		return err
	}
	for i := range r.id.shards {
		s, err := r.restore(uint8(i))
		if err != nil {
			return err
		}
		r.shards = append(r.shards, s)
	}
	if err := r.scan(); err != nil {
		return err
	}
	return r.settle()
}

// scan goes through the log.
func (r *repairer) scan() error {
	first := r.shards[0].base
	for _, s := range r.shards {
		first = min(first, s.base)
	}
	first = max(first, wal.MakePos(1, wal.PageBytes))
	next := first.Segment()
	unused, err := r.unused()
	if err != nil {
		return err
	}
	for i, n := range r.numbers {
		r.now = n
		if n > next {
			r.damage(r.wal.Name(next), 0, missingFiles(n-next))
			r.gap(max(first, wal.MakePos(next, wal.PageBytes)), wal.MakePos(n, wal.PageBytes), "a file is missing")
		}
		next = max(next, n+1)
		if n == unused {
			r.segs[n] = &part{aside: true}
			continue
		}
		last := i == len(r.numbers)-1 || r.numbers[i+1] == unused
		if err := r.segment(n, last); err != nil {
			return err
		}
	}
	if len(r.numbers) == 0 || r.numbers[len(r.numbers)-1] < first.Segment() {
		r.damage(r.wal.Name(first.Segment()), 0, "the file is missing")
		r.out.EndLost = "a file is missing"
	}
	r.now = r.highest + 1
	if end := r.end(); end < r.proven {
		r.out.EndLost = "the log ends before a snapshot that was written later"
		if len(r.out.Damage) == 0 {
			r.damage(r.wal.Name(end.Segment()), end.Offset(), r.out.EndLost)
		}
	}
	return nil
}

func missingFiles(n uint32) string {
	if n == 1 {
		return "the file is missing"
	}
	return fmt.Sprintf("the file is missing, and %d behind it", n-1)
}

func (r *repairer) end() wal.Pos {
	for _, n := range slices.Backward(r.numbers) {
		if p := r.segs[n]; p != nil && p.end > 0 {
			return wal.MakePos(n, p.end)
		}
	}
	return 0
}

// unused is the last segment where it was made and never written into, else 0.
func (r *repairer) unused() (uint32, error) {
	if len(r.numbers) < 2 {
		return 0, nil
	}
	n := r.numbers[len(r.numbers)-1]
	found, err := wal.Salvage(r.wal, n, true, 0, func(wal.Piece) error { return nil })
	if err != nil || found.Frames > 0 || found.Torn > 0 || len(found.Damage) > 0 || r.proven.Segment() >= n {
		return 0, err
	}
	return n, nil
}

func (r *repairer) segment(n uint32, last bool) error {
	p := &part{}
	r.segs[n] = p
	found, err := wal.Salvage(r.wal, n, last, r.proven, r.piece)
	if err != nil {
		return err
	}
	r.out.Damage = append(r.out.Damage, found.Damage...)
	r.out.Torn += found.Torn
	p.foreign, p.end = found.Foreign, found.End
	// What is not sealed would be damage once another segment follows.
	p.aside = p.aside || len(found.Damage) > 0 || !found.Sealed
	if found.Foreign {
		r.gap(wal.MakePos(n, wal.PageBytes), wal.MakePos(n+1, wal.PageBytes), "the segment is not there")
	}
	switch {
	case !last:
	case found.Sealed && r.numbers[len(r.numbers)-1] == n:
		r.damage(r.wal.Name(n+1), 0, "the file is missing")
		r.highest = max(r.highest, n+1)
		r.out.EndLost = "a file is missing"
	case found.Foreign:
		r.out.EndLost = "the segment is not there"
	case found.Short && !found.Sealed:
		r.out.EndLost = "the file has become shorter"
	}
	return nil
}

// piece deals with what was found in the log.
func (r *repairer) piece(p wal.Piece) error {
	at := &wal.Damage{File: r.wal.Name(p.From.Segment()), Offset: p.From.Offset(), Why: p.Why}
	if p.State == wal.Mended {
		r.out.Mended = append(r.out.Mended, at)
	}
	if p.State == wal.Gap {
		r.gap(p.From, p.To, p.Why)
		return nil
	}
	if p.Shard == nobody {
		return nil // what a state needs of it shows in the end
	}
	if int(p.Shard) >= len(r.shards) {
		why := fmt.Sprintf("a record of shard %d, of %d", p.Shard, len(r.shards))
		r.damage(at.File, at.Offset, why)
		r.gap(p.From, p.To, why)
		return nil
	}
	s, ref := r.shards[p.Shard], journal.Ref(p.From)
	switch {
	case p.From < s.base:
	case s.cut != nil:
		r.leave(s, ref, p)
	case p.State == wal.Damaged:
		if !s.Guess(ref, p.Payload) {
			r.cut(s, p.From, p.Why)
		}
	default:
		if err := s.Apply(ref, p.Payload); err != nil {
			r.damage(at.File, at.Offset, "the record is whole, but cannot be applied: "+err.Error())
			r.cut(s, p.From, "a record cannot be applied")
			r.leave(s, ref, p)
		}
	}
	return nil
}

// leave leaves a record out; its file is kept.
func (r *repairer) leave(s *mending, ref journal.Ref, p wal.Piece) {
	r.segs[ref.Segment()].aside = true
	if p.State != wal.Damaged {
		s.cut.Left++
		s.Beyond(ref, p.Payload)
	}
}

// gap cuts the shards that need what may have been between two places.
func (r *repairer) gap(from, to wal.Pos, why string) {
	for _, s := range r.shards {
		if s.cut == nil && s.base < to {
			r.cut(s, max(from, s.base), why)
		}
	}
}

func (r *repairer) cut(s *mending, at wal.Pos, why string) {
	s.cut = &Cut{State: s.Mender, Shard: int(s.number), At: journal.Ref(at), Why: why, Empty: s.base == 0 && at <= wal.MakePos(1, wal.PageBytes)}
	s.snapshot, s.kept = s.Snapshot(r.moves)
}

// moves reports whether a place is not, or will not be, where a state could refer to it. A segment that
// is still being looked at counts as one that is moved.
func (r *repairer) moves(ref journal.Ref) bool {
	p := r.segs[ref.Segment()]
	return p == nil || p.aside || p.foreign || ref.Segment() >= r.now || int64(ref.Offset()) >= p.end
}

// settle finds out what the states need of the files that are moved, and what of it is lost.
func (r *repairer) settle() error {
	gone := map[uint32]int64{}
	for _, s := range r.shards {
		if s.cut == nil {
			s.snapshot, s.kept = s.Snapshot(r.moves)
		} else {
			r.out.Cuts = append(r.out.Cuts, *s.cut)
		}
		for _, k := range s.kept {
			_, err := r.read(k)
			if d, is := errors.AsType[*wal.Damage](err); is {
				r.out.Lost = append(r.out.Lost, Lost{Shard: int(s.number), Kept: k, Why: d.Why})
				if r.segs[k.Ref.Segment()] == nil {
					gone[k.Ref.Segment()] += int64(k.Size)
				}
				continue
			}
			if err != nil {
				return err
			}
			r.out.Copied += int64(k.Size)
		}
	}
	for _, n := range sortedKeys(gone) {
		name := r.wal.Name(n)
		if !slices.ContainsFunc(r.out.Damage, func(d *wal.Damage) bool { return d.File == name }) {
			r.damage(name, 0, fmt.Sprintf("the file is missing, though %d bytes of it are needed", gone[n]))
		}
	}
	return r.closeFiles()
}

// read reads a record that is to be written anew. A *wal.Damage says that it is lost.
func (r *repairer) read(k Kept) ([]byte, error) {
	n := k.Ref.Segment()
	p, name := r.segs[n], r.wal.Name(n)
	if p == nil || p.foreign {
		return nil, &wal.Damage{File: name, Offset: int64(k.Ref.Offset()), Why: "the segment is not there"}
	}
	if p.file == nil {
		var err error
		if p.file, err = r.wal.FS.Open(name); err != nil {
			return nil, err
		}
	}
	return wal.ReadRecord(p.file, name, wal.Pos(k.Ref), k.Size)
}

func (r *repairer) closeFiles() error {
	var errs []error
	for _, p := range r.segs {
		if p.file != nil {
			errs = append(errs, p.file.Close())
			p.file = nil
		}
	}
	return errors.Join(errs...)
}

// identify finds out whose the files are, also where VERSION cannot be read.
func (r *repairer) identify() error {
	id, err := readIdentity(r.fs, r.dir)
	r.wal = wal.Dir{FS: r.fs, Path: filepath.Join(r.dir, "wal")}
	if _, is := errors.AsType[*wal.Damage](err); !is && !errors.Is(err, fs.ErrNotExist) {
		r.id, r.wal.ID = id, id.id
		return err
	}
	known, kerr := r.ids()
	if kerr != nil {
		return kerr
	}
	if len(known) == 0 {
		return err
	}
	for i, n := range known {
		if n > known[r.id.id] || r.id.id == 0 {
			r.id.id = i
		}
	}
	why := "its text is not what was written"
	if errors.Is(err, fs.ErrNotExist) {
		why = "the file is missing"
	}
	if r.id.shards = r.opt.Shards; r.id.shards == 0 {
		return fmt.Errorf("%s: %s, and how many shards there are is not known otherwise", versionFile(r.dir), why)
	}
	r.damage(versionFile(r.dir), 0, why)
	r.wal.ID, r.renew = r.id.id, true
	return nil
}
