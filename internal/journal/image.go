package journal

import "errors"

// ErrUnknown is a Batch's outcome where an image has taken the place of what the batch was in: it may be kept or not.
var ErrUnknown = errors.New("whether it is kept is not known: this node has fallen so far behind that it took over another's state")

// An Image is the state of another node, after a batch that this node cannot reach by batches, as nobody keeps those any more. The
// owner of the journal makes a state of it that refers to records of this node, and puts it in the place of its own.
//
// All methods are called by the shard's goroutine; none of them waits. The journal wakes its owner when one of them has something new.
type Image interface {
	// State is what that node's owner has handed over for a snapshot, all pieces together. It refers to that node's records.
	State() []byte
	// Empty reports that there is no such node, and the new state is to hold nothing: this node is to forget what it has.
	Empty() bool
	// Alike reports whether what the owner's state has under some queue and seq is what the image has under them, so that its record will do. It is not where
	// this node's past is not the image's.
	Alike() bool
	// Here reports whether this node has the record at a place to which the owner's state refers: after a restart that may refer to what is gone, as batches that
	// nothing says are committed have released it. Such a record is to be fetched.
	Here(ref Ref) bool
	// Fetch asks for records of that node, refs in rising order, FetchBytes together if they are several and FetchRefs at most. One call at a time:
	// the next when Fetched has returned what was asked for.
	Fetch(refs []Ref)
	// Fetched returns what has come of what was asked for: all of it at once, in the order of asking; nil where a record is
	// gone, since batches behind the image have released it. The second result is false as long as nothing has come. The bytes are valid until the next Fetch.
	Fetched() ([][]byte, bool)
	// Install says that the new state is whole: but for what is gone it refers to this node's records, and Committed has returned all
	// batches in which those are.
	Install()
	// Installed reports that Committed has returned all that belongs to the old state. The owner puts the new one in its place, at
	// once, retains what it refers to, what is gone included, and makes a Snapshot of it; Committed returns batches behind it when that is kept.
	Installed() bool
	// Over reports that the image is of no use any more. The owner forgets it. It is never over once it is Installed.
	Over() bool
}

// What Image.Fetch asks for together.
const (
	FetchBytes = 1 << 20
	FetchRefs  = 8192
)

// A Stored snapshot is open to be read.
type Stored struct {
	Head   []byte // what a consensus has put before the state
	Size   int64  // of the state
	Sum    uint32 // crc32c of the state
	ReadAt func(b []byte, off int64) error
	Close  func()
}
