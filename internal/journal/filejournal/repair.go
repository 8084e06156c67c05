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
	// Gap tells that there may have been records here that are lost. What comes behind it is applied all the same; the
	// mender sees to it that it does no harm.
	Gap()
	// Guess is Apply for a record of which only the place, the length and the shard are certain. It
	// reports whether what can be read says what the record does to the state, but for the bytes that it
	// keeps; where it is false the state is as it was.
	Guess(ref journal.Ref, payload []byte) bool
	// Snapshot is the state's snapshot, and what it refers to in places for which in holds. Nothing is applied behind it.
	Snapshot(in func(journal.Ref) bool) (data []byte, kept []Kept)
	// Move appends a record that lets the state refer to that record instead; payload is what it keeps.
	Move(dst []byte, k Kept, payload []byte) ([]byte, error)
	// Drop appends a record by which the state does without.
	Drop(dst []byte, k Kept) []byte
}

// ErrLeftOut, where a Mender's Apply returns it, says that the record is of something that is lost: it
// changes nothing, but must be kept for whoever can make sense of it.
var ErrLeftOut = errors.New("left out: what it is about is lost")

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
	Gaps     []Gap
	LeftOut  int // records for which there was ErrLeftOut; they are in what was moved
	Lost     []Lost
	Copied   int64       // bytes that are written anew
	End      journal.Ref // of the log
	EndLost  string      // why there may have been records behind the end, of which nothing is known

	// States are what became of the shards.
	States []Mender

	// Torn is what was being written when the machine stopped; nobody was told that it is kept.
	Torn int64
}

// Needed reports whether there is anything to repair.
func (r *Repaired) Needed() bool { return len(r.Damage) > 0 }

// A Gap is a place where records of some shards may be lost.
type Gap struct {
	From, To journal.Ref
	Why      string
	Records  int   // how many there were; 0 where that is not known
	Shards   []int // those that need what was there: their snapshots are older
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
// Each shard gets a new snapshot: of its state behind the last of its records. What the state refers to in files
// that are moved is written anew.
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
		if n > next {
			r.damage(r.wal.Name(next), 0, missingFiles(n-next))
			r.gap(Gap{From: journal.Ref(max(first, wal.MakePos(next, wal.PageBytes))), To: journal.Ref(wal.MakePos(n, wal.PageBytes)), Why: "a file is missing"})
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
	end := r.end()
	if r.out.End = journal.Ref(end); end < r.proven {
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
		r.gap(Gap{From: journal.MakeRef(n, wal.PageBytes), To: journal.MakeRef(n+1, wal.PageBytes), Why: "the segment is not there"})
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
	from, to := journal.Ref(p.From), journal.Ref(p.To)
	if p.State == wal.Gap {
		r.gap(Gap{From: from, To: to, Why: p.Why, Records: p.Records})
		return nil
	}
	if _, mark := owner(p.Shard); mark && p.State != wal.Damaged {
		return fmt.Errorf("%s: %w", r.dir, errReplica) // what is lost here the others have
	}
	if p.Shard == nobody {
		return nil // what a state needs of it shows in the end
	}
	if int(p.Shard) >= len(r.shards) {
		why := fmt.Sprintf("a record of shard %d, of %d", p.Shard, len(r.shards))
		r.damage(at.File, at.Offset, why)
		r.gap(Gap{From: from, To: to, Why: why, Records: 1})
		return nil
	}
	s := r.shards[p.Shard]
	if p.From < s.base {
		return nil
	}
	if p.State == wal.Damaged {
		if !s.Guess(from, p.Payload) {
			r.gap(Gap{From: from, To: to, Why: p.Why, Records: 1}, s)
		}
		return nil
	}
	err := s.Apply(from, p.Payload)
	if err != nil && !errors.Is(err, ErrLeftOut) {
		why := "the record is whole, but cannot be applied: " + err.Error()
		r.damage(at.File, at.Offset, why)
		r.gap(Gap{From: from, To: to, Why: why, Records: 1}, s)
	}
	if err != nil {
		r.out.LeftOut++
		r.segs[p.From.Segment()].aside = true
	}
	return nil
}

// gap tells the shards that need what may have been there; of them only those that are named, where some are.
func (r *repairer) gap(g Gap, shards ...*mending) {
	if shards == nil {
		shards = r.shards
	}
	for _, s := range shards {
		if s.base < wal.Pos(g.To) {
			s.Gap()
			g.Shards = append(g.Shards, int(s.number))
		}
	}
	if len(g.Shards) > 0 {
		r.out.Gaps = append(r.out.Gaps, g)
	}
}

// moves reports whether a place is not, or will not be, where a state could refer to it.
func (r *repairer) moves(ref journal.Ref) bool {
	p := r.segs[ref.Segment()]
	return p == nil || p.aside || p.foreign || int64(ref.Offset()) >= p.end
}

// settle finds out what the states need of the files that are moved, and what of it is lost.
func (r *repairer) settle() error {
	gone := map[uint32]int64{}
	for _, s := range r.shards {
		s.snapshot, s.kept = s.Snapshot(r.moves)
		r.out.States = append(r.out.States, s.Mender)
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
