// Package journal says what a storage must do for a shard: keep records in
// the order in which they were proposed, say when they are kept, and read them
// back. It also holds the storage that forgets, Memory.
//
// It does not know what a record means, what a queue is, or what the time is.
package journal

import (
	"encoding/binary"
	"errors"
)

// A Ref names the place of one record: the segment's number in the upper 32
// bits, the offset of the record's header in the lower. Zero names nothing. Refs of later
// records are greater.
type Ref uint64

// Segment is the number of the segment the record lies in.
func (r Ref) Segment() uint32 { return uint32(r >> 32) }

// Offset is the record's place in its segment, in bytes.
func (r Ref) Offset() uint32 { return uint32(r) }

// MakeRef is the ref of the record at offset in segment.
func MakeRef(segment, offset uint32) Ref { return Ref(segment)<<32 | Ref(offset) }

// HeaderBytes is the room in front of every record's payload. The proposer
// writes the payload's length into the first four bytes (EndRecord does); the
// journal owns the rest (checksum, shard).
const HeaderBytes = 12

// BeginRecord leaves room for a record's header at the end of dst. The
// payload is appended behind it, then EndRecord closes it.
func BeginRecord(dst []byte) []byte {
	return append(dst, make([]byte, HeaderBytes)...)
}

// EndRecord closes the record that was begun when dst was start bytes long.
func EndRecord(dst []byte, start int) {
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-HeaderBytes))
}

// NextRecord returns the payload of the record that starts at offset in data,
// and where the next one starts.
func NextRecord(data []byte, offset int) (payload []byte, next int) {
	n := int(binary.LittleEndian.Uint32(data[offset:]))
	next = offset + HeaderBytes + n
	return data[offset+HeaderBytes : next : next], next
}

// ErrDiskFull is a Batch's outcome where the storage had no room for it.
var ErrDiskFull = errors.New("no space left on the storage")

// ErrUnavailable is a Batch's outcome where the storage could not be reached and it is certain that nothing of the batch is
// kept, now or later. It is no end: the storage goes on by itself when it can be reached again.
var ErrUnavailable = errors.New("the storage cannot be reached")

// ErrNotYet is what Read returns where records have to be fetched first. The journal wakes its owner when it has them;
// the same Read is answered then. It wakes it, too, when it has tried in vain for a while: then Read returns ErrUnavailable,
// until the records are there after all, of which the owner is told again. So it is with records that it has, while another
// process may have taken the storage over.
var ErrNotYet = errors.New("the records are being fetched")

// A Batch is a run of records of one shard. It is kept whole or not at all,
// also by a crash: after a restart either all of its records are replayed or
// none. It belongs to the journal from Propose until Committed returns it.
type Batch struct {
	// Data holds the records one after another, as BeginRecord and EndRecord
	// lay them out. Once the batch is committed it must not be changed: it may be
	// what Read answers from. It may be reused after Recycle says so.
	Data []byte

	// Essential batches may use the space that is held back for the time when
	// the storage is full: they free more than they take.
	Essential bool

	// Base is the place of Data's first byte, set when the batch is committed:
	// the record at Data[i] has the ref Base+i.
	Base Ref

	// Err is nil where the batch is kept; ErrDiskFull or ErrUnavailable where nothing of it is. A refused batch may come back
	// before those that were proposed before it.
	Err error

	// Parts, of a batch that several shards' journals keep together, says which of its records are whose:
	// it is kept whole in all of them or in none, and each of them returns it from Committed. nil: all are of the journal that it
	// was proposed to. Of a batch that was proposed to one of them they may keep apart what is Nobody's.
	Parts []Part

	// Sharers is how many journals that forget were given batches with this Data: each
	// answers for its part of the memory. 0 is 1. No bytes of Data may be changed before all of them return it.
	Sharers int

	// Local batches say where things lie on this node and change nothing that replicas must agree on: a journal with
	// replicas keeps them for this node alone, and returns them without waiting for others: maybe before batches that were
	// proposed earlier. Journals without replicas need not look at it.
	Local bool

	// Lent says that Data is a buffer of package spare that nobody but the batch has: whoever needs it last gives it back there.
	// A journal that keeps Data is that.
	Lent bool

	// Owner is the proposer's; no journal looks at it. It is nil in a batch that another node has proposed.
	Owner any
}

// Errors of a journal with replicas, as a Batch's outcome.
var (
	// ErrNotLeading: another node leads, or none does yet. Nothing of the batch is kept, or ever will be.
	ErrNotLeading = errors.New("this node does not lead")
	// ErrOverruled: this node led when the batch was proposed, and a later leader has put something else in its place. Nothing
	// of it is kept, or ever will be.
	ErrOverruled = errors.New("another node has taken over the lead, and the batch is not kept")
)

// A Role is what a node is to a shard that has replicas.
type Role struct {
	Leading bool
	Leader  uint64 // the node that leads; 0: it is not known
	Term    uint64 // the number of the leadership: each has a greater one than those before
}

// Replicated is a journal with replicas on other nodes. One of them leads: only there are batches proposed, but for Local ones.
//
// On every node Committed returns all batches that count, in the same order: those that were proposed there, and those of
// others, whose Owner is nil, and of which several may come as one. What was proposed and is not kept comes back with its error when that is certain, which after a loss of
// the lead may take until another node leads; whoever waits for it need not: once Role says so, the outcome is unknown to him.
type Replicated interface {
	Journal
	// Role is the one under which the batches that Committed has returned last were committed. It leads only when
	// everything of earlier leaders has been returned.
	Role() Role
	// Image is what is to take the place of the owner's state, nil where nothing is. The owner goes on as before meanwhile, but begins no
	// snapshot of the old state and proposes nothing that is Local but the image's records.
	Image() Image
}

// A Part is the records of one shard in a batch: from the end of the part before up to Data[End].
type Part struct {
	Shard int // Nobody: no shard replays them; any may read them
	End   int
	// Mark says that the records are notes of a consensus about what lies behind them. They are in the shard's order, and
	// none of its owner's.
	Mark bool
}

// Nobody is the shard of records that are only referred to by others.
const Nobody = -1

// A Snapshot takes a state in pieces. The journal writes them in the background. After the last one it gives back
// the segments that neither the snapshot nor a retained record needs. None of its methods waits.
type Snapshot interface {
	// Write hands over the next piece, which is the journal's from here on.
	Write(piece []byte)
	// Backlog is how many bytes are not written yet. The journal wakes its owner when it has fallen far.
	Backlog() int
	// Commit says that it is whole. One that is never committed counts for nothing.
	Commit()
}

// A Span is a record and its length with its header, in bytes.
type Span struct {
	Ref  Ref
	Size uint32
}

// A Compaction is what a journal asks of its owner when its garbage has grown:
// a snapshot of the state, and that the records still needed in sparse
// segments be proposed anew.
type Compaction struct {
	// Sparse reports whether the record's segment is to be given up.
	Sparse func(Ref) bool
	// Round tells wishes apart; journals that are one log wish together, with the same round and the same segments.
	Round uint64
}

// A Journal keeps one shard's records. All methods are called by the shard's
// goroutine alone; none of them waits for a disk, except Replay, Read and
// Close. The journal calls the wake function it was made with, from any
// goroutine, when Committed, Compact or Failed have something new to say.
type Journal interface {
	// Replay calls snapshot with the newest snapshot, if there is one, then
	// record for each record after it, in order. It is called once, before anything else.
	// The bytes are valid only during the call. Those of a message may be zeros: as many as there were.
	Replay(snapshot func(data []byte) error, record func(ref Ref, payload []byte) error) error

	// Propose hands over a batch. The outcome arrives through Committed.
	Propose(b *Batch)

	// Committed appends the batches whose outcome has become known, in the
	// order in which they were proposed.
	Committed(into []*Batch) []*Batch

	// Recycle says whether a committed batch's Data may be overwritten.
	Recycle(b *Batch) bool

	// Read appends the payloads of the records at refs. They are verbatim, or
	// there is an error that names the place, or ErrNotYet, or ErrUnavailable. They are valid until the next Committed or Release.
	Read(refs []Ref, into [][]byte) ([][]byte, error)

	// Retain says that the state refers to these records; Release that it no
	// longer does. A record that was never retained is garbage once a
	// snapshot covers it.
	Retain(spans []Span)
	Release(spans []Span)

	// Compact reports whether a snapshot is wanted, once per wish.
	Compact() (Compaction, bool)

	// Snapshot begins a snapshot: the state after all batches that Committed has returned
	// so far. The owner hands it over in pieces, as it finds the time; there is one at a time.
	Snapshot() Snapshot

	// Failed is the reason why nothing can be promised any more (a failed
	// fsync), or nil. Batches proposed since have no outcome. The process must end.
	Failed() error

	// Used is the space in bytes that the journal takes, and how much of it
	// is retained records. For a shared log both are the whole log's.
	Used() (total, live int64)

	// Close waits for what was proposed and gives everything back.
	Close() error
}
