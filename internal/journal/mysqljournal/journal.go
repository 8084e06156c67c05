// Package mysqljournal keeps the records of all shards in the tables of a MySQL or MariaDB server: a row for each message
// that is not settled, everything else as runs of records, in one transaction for whatever has queued up during the one
// before.
//
// It does not know what a record means: which row of the table of messages comes, changes or goes is said by a Follower,
// and how a record is cut into columns by a Format. Tables and guarantees: docs/mysql.md.
package mysqljournal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/gmq/gmq/internal/journal"
)

// Op says what becomes of a row.
type Op uint8

// The ops.
const (
	Insert Op = iota + 1
	Update
	Delete
)

// A Change is what a record means for one row of the table of messages.
type Change struct {
	Op        Op
	Ref       journal.Ref // of the record that holds the message's bytes
	Own       journal.Ref // Insert: of the record that put the message into its queue; another than Ref where queues share the bytes
	Queue     string
	Seq       uint64
	FromQueue string // Update: where it was before
	FromSeq   uint64
	Published int64 // Insert; unix ns
	Due       int64 // unix ns; 0: now
	Attempts  uint32
}

// A Follower is a shard's state machine, which says what its records mean for the rows. It is given every record once,
// in order, in the moment at which its fate is decided.
type Follower interface {
	LoadSnapshot(data []byte) error
	// Apply's result is valid until the next call.
	Apply(ref journal.Ref, size uint32, payload []byte) ([]Change, error)
}

// Stubs write and read records without their messages' bytes: what a Follower, and the owner, need of them in a replay.
type Stubs interface {
	Append(dst, payload []byte) []byte
	Read(b []byte) (payload, rest []byte, err error)
}

// A Format is what the journal has to know of records, given by whoever knows what they are.
type Format struct {
	NewFollower func() Follower
	NewStubs    func() Stubs
	// Parts cuts a message's record into head, headers and body, which one behind the other are the record.
	Parts func(payload []byte) (head, headers, body []byte, ok bool)
}

// Options are what a journal is made from. The zero of what may be left out is a default.
type Options struct {
	DSN             string
	Shards          int
	Format          Format
	Node            string // names the installation: a new life of the same one does not wait for the old one's end
	Owner           string // for people
	CacheBytes      int64
	MaxMessageBytes int           // what a row must have room for
	CompactBytes    int64         // of commands, per shard, that are worth a snapshot
	Takeover        time.Duration // after which an owner that is not heard of is taken to be gone
	// Mate reports whether an installation is another node of this one's cluster: it is taken to be gone after two seconds at the latest. nil: none is.
	Mate     func(node string) bool
	Patience time.Duration // how long Open waits for a server that cannot be reached
	Slow     time.Duration // after which an answer that is not there counts as an outage
	Logf     func(format string, args ...any)
}

const (
	defaultTakeover = 10 * time.Second
	defaultPatience = 30 * time.Second
	defaultSlow     = 5 * time.Second
	defaultCompact  = 8 << 20
	// mostMateTakeover is Takeover among the nodes of a cluster.
	mostMateTakeover = 2 * time.Second
	// closePatience is how long Close waits for a server that cannot be reached.
	closePatience = 5 * time.Second
	// txnBytes is where a transaction is full, unless its first batch is larger.
	txnBytes = 4 << 20
	// backlogBytes is how much may wait for the database. More is refused.
	backlogBytes = 64 << 20
	// statementBytes is how long a statement gets, if the server takes that much.
	statementBytes = 1 << 20
	// ownerChars is what gmq_epoch.owner has room for.
	ownerChars = 255
)

// An item is a batch and whose it is; shard is nil where its Parts say.
type item struct {
	shard *Shard
	batch *journal.Batch
}

// Journal is the journals of all shards. Two goroutines do its work: the composer makes transactions of what is proposed, and
// the executor carries them out, one at a time, until each is done. A composed transaction is never given up, as the
// followers have seen its records: what is refused is refused before.
type Journal struct {
	opt    Options
	cfg    *mysql.Config
	db     *sql.DB
	shards []*Shard
	cache  cache
	ctx    context.Context // ends when the journal is closed
	cancel context.CancelFunc

	epoch    int64
	work     chan struct{} // there is something for the composer; holds one
	ready    chan struct{} // the executor has nothing to do; holds one
	composed chan *txn     // from the composer to the executor
	ended    chan struct{} // the executor has ended

	mu           sync.Mutex // guards the following
	idle         *sync.Cond // something was answered
	pending      []item
	waiting      int64 // bytes of what was proposed and is not answered
	proposed     uint64
	answered     uint64
	released     []journal.Span // rows that nobody needs any more, from releasedHead on
	releasedHead int
	releases     uint64        // how many there have ever been
	writers      []*snapWriter // snapshots with something to write
	outage       outage
	why          error    // of the outage
	garbage      []string // statements that delete what earlier lives have left
	ending       bool     // the owners close, one after another
	waited       bool     // they have waited long enough for a database that is away
	closing      bool
	leaves       bool // and the next owner waits
	hurried      bool // and nothing is done any more that nobody waits for
	closedErr    error

	born    time.Time
	tenure  atomic.Int64  // until when nobody else can have taken over, ns after born
	hold    atomic.Int64  // for how long nobody takes over an owner that is not heard of, ns
	paced   chan struct{} // hold has changed; holds one
	packet  atomic.Int64  // the server's max_allowed_packet
	failure atomic.Pointer[error]
	live    atomic.Int64
	kept    atomic.Int64 // bytes of commands and snapshots

	composer composer
	executor executor

	bodiesMu sync.Mutex             // guards bodies
	bodies   map[journal.Ref]*share // what queues share
	settled  atomic.Int64           // shards whose owners have said all that they retain

	fetches chan *Shard
	readers sync.WaitGroup
	stats   Stats
}

// A share is a body and how many messages refer to it.
type share struct {
	messages int64
	old      bool // from before the start
}

// An outage is why nothing can be kept for the time being.
type outage uint8

const (
	none outage = iota
	away
	full
)

// Stats count what the journal has done.
type Stats struct {
	Transactions, Records, Inserted int64
}

// Open connects to the database, makes or migrates the tables, and waits until they are this process's: another owner has to
// end, or to have been silent for Takeover.
func Open(ctx context.Context, opt Options) (*Journal, error) {
	cfg, err := config(opt.DSN)
	if err != nil {
		return nil, err
	}
	opt.Takeover = orDefault(opt.Takeover, defaultTakeover)
	opt.Patience = orDefault(opt.Patience, defaultPatience)
	opt.Slow = orDefault(opt.Slow, defaultSlow)
	opt.CompactBytes = orDefault(opt.CompactBytes, defaultCompact)
	opt.Owner = atMost(strings.ToValidUTF8(opt.Owner, "?"), ownerChars)
	if opt.Logf == nil {
		opt.Logf = func(string, ...any) {}
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	j := &Journal{opt: opt, cfg: cfg, db: sql.OpenDB(connector), composed: make(chan *txn), ended: make(chan struct{}),
		work: make(chan struct{}, 1), ready: make(chan struct{}, 1), paced: make(chan struct{}, 1), born: time.Now(),
		bodies: map[journal.Ref]*share{}, fetches: make(chan *Shard, opt.Shards)}
	j.hold.Store(int64(opt.Takeover))
	j.db.SetMaxIdleConns(maxReaders + 1)
	j.idle = sync.NewCond(&j.mu)
	j.ctx, j.cancel = context.WithCancel(context.Background())
	j.cache.limit = max(opt.CacheBytes, 1<<20)
	for i := range opt.Shards {
		j.shards = append(j.shards, newShard(j, i))
	}
	if err := j.acquire(ctx); err != nil {
		j.cancel()
		return nil, errors.Join(err, j.db.Close())
	}
	j.composer.init(j)
	go j.composeLoop()
	go j.executeLoop()
	for range maxReaders {
		j.readers.Go(j.fetchLoop)
	}
	return j, nil
}

// atMost is the beginning of s.
func atMost(s string, chars int) string {
	for i := range s {
		if chars == 0 {
			return s[:i]
		}
		chars--
	}
	return s
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Shard is the journal of shard i. It wakes its owner through wake.
func (j *Journal) Shard(i int, wake func()) journal.Journal {
	s := j.shards[i]
	s.mu.Lock()
	s.wakeFunc = wake
	s.mu.Unlock()
	return s
}

// Spread proposes a batch of several shards.
func (j *Journal) Spread(b *journal.Batch) { j.enqueue(item{nil, b}) }

// enqueue takes a batch, or refuses it at once: while nothing can be kept, or where too much waits already.
func (j *Journal) enqueue(it item) {
	n := int64(len(it.batch.Data))
	j.mu.Lock()
	refusal := j.refusalOf(it.batch, n)
	if refusal == nil {
		refusal = j.tooLarge(it.batch)
	}
	if refusal == nil && j.Failed() == nil {
		j.proposed++
		j.waiting += n
		j.pending = append(j.pending, it)
	}
	j.mu.Unlock()
	signal(j.work)
	if refusal != nil {
		it.batch.Base, it.batch.Err = 0, refusal
		j.handBack(it, nil)
	}
}

// refusalOf says why a batch cannot be taken, if it cannot. Essential ones wait, as long as there is room for them. Called with mu held.
func (j *Journal) refusalOf(b *journal.Batch, n int64) error {
	limit := int64(backlogBytes)
	switch {
	case j.outage == none:
	case !b.Essential && j.outage == full:
		return journal.ErrDiskFull
	case !b.Essential:
		return journal.ErrUnavailable
	default:
		limit /= 4
	}
	if j.waiting > 0 && j.waiting+n > limit {
		return journal.ErrUnavailable
	}
	return nil
}

// tooLarge refuses a message that has no room in a statement, however short the rest of it.
func (j *Journal) tooLarge(b *journal.Batch) error {
	limit := roomIn(j.packet.Load())
	if int64(len(b.Data)) <= limit {
		return nil
	}
	for at := 0; at < len(b.Data); {
		payload, next := journal.NextRecord(b.Data, at)
		if int64(len(payload)) > limit {
			if _, _, _, message := j.opt.Format.Parts(payload); message {
				return fmt.Errorf("%w: a message takes %d bytes, and max_allowed_packet of the server leaves room for %d", journal.ErrUnavailable, len(payload), limit)
			}
		}
		at = next
	}
	return nil
}

// handBack gives a batch back to its owners. touched collects the shards to be woken; where it is nil they are woken at once.
func (j *Journal) handBack(it item, touched map[*Shard]struct{}) {
	give := func(s *Shard) {
		s.mu.Lock()
		s.done = append(s.done, it.batch)
		s.mu.Unlock()
		if touched == nil {
			s.callWake()
		} else {
			touched[s] = struct{}{}
		}
	}
	if it.shard != nil {
		give(it.shard)
		return
	}
	var seen uint64
	for _, p := range it.batch.Parts {
		if p.Shard != journal.Nobody && seen&(1<<p.Shard) == 0 {
			seen |= 1 << p.Shard
			give(j.shards[p.Shard])
		}
	}
}

// setOutage notes that nothing can be kept now, and refuses what waits and may be refused; none ends it.
func (j *Journal) setOutage(o outage, why error) {
	var refused []item
	j.mu.Lock()
	was := j.outage
	j.outage, j.why = o, why
	if o != none {
		kept := j.pending[:0]
		for _, it := range j.pending {
			if it.batch.Essential {
				kept = append(kept, it)
				continue
			}
			refused = append(refused, it)
			j.waiting -= int64(len(it.batch.Data))
			j.answered++
		}
		clear(j.pending[len(kept):])
		j.pending = kept
	}
	j.mu.Unlock()
	switch {
	case o != none && was == none:
		j.opt.Logf("mysql: nothing can be stored for the time being: %v", why)
	case o == none && was != none:
		j.opt.Logf("mysql: storing again")
	}
	cause := journal.ErrUnavailable
	if o == full {
		cause = journal.ErrDiskFull
	}
	for _, it := range refused {
		it.batch.Base, it.batch.Err = 0, cause
		j.handBack(it, nil)
	}
}

// Outage is why nothing can be stored at the moment; nil where it can.
func (j *Journal) Outage() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.why
}

// Failed is the reason why nothing can be promised any more.
func (j *Journal) Failed() error {
	if err := j.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fail ends all promises.
func (j *Journal) fail(err error) {
	err = fmt.Errorf("mysql: %w", err)
	j.failure.CompareAndSwap(nil, &err)
	signal(j.work)
	j.mu.Lock()
	j.idle.Broadcast()
	j.mu.Unlock()
	for _, s := range j.shards {
		s.callWake()
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (j *Journal) isClosing() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closing
}

// hasWork reports whether something waits for the composer.
func (j *Journal) hasWork() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.pending) > 0 || j.hurried || j.leaves {
		return len(j.pending) > 0
	}
	return len(j.released) > j.releasedHead || len(j.writers) > 0 || len(j.garbage) > 0 && !j.closing
}

// patience is how long is waited at the end, where the database cannot be reached.
func (j *Journal) patience() time.Duration { return min(j.opt.Patience, closePatience) }

// waitAnswered waits until everything proposed so far has its outcome; where the database cannot be reached, no longer than
// patience for all shards together.
func (j *Journal) waitAnswered() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.ending {
		j.ending = true
		time.AfterFunc(j.patience(), func() {
			j.mu.Lock()
			j.waited = true
			j.idle.Broadcast()
			j.mu.Unlock()
		})
	}
	for want := j.proposed; j.answered < want && j.Failed() == nil && !j.closing && !(j.waited && j.outage != none); {
		j.idle.Wait()
	}
	return j.Failed()
}

// waitedInVain reports whether the owners have waited for a database that is away.
func (j *Journal) waitedInVain() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waited && j.outage != none
}

// hurry lets a journal that is being closed end soon: at once where the database is away.
func (j *Journal) hurry() {
	j.mu.Lock()
	j.hurried = true
	away := j.outage != none
	j.mu.Unlock()
	if away {
		j.cancel()
		return
	}
	signal(j.work)
	time.AfterFunc(j.patience(), j.cancel) // which does no harm where it has ended before
}

// Stats are what was done so far.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stats
}

// Leave is Close where the next owner waits: what is garbage is left to it.
func (j *Journal) Leave() error {
	j.mu.Lock()
	j.leaves = true
	j.mu.Unlock()
	return j.Close()
}

// Close waits for what was proposed, though not long where the database cannot be reached, gives the tables back, and ends. Rows
// that are garbage and would take long to delete are left to the next life.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closing {
		j.mu.Unlock()
		<-j.ended
		return j.closedErr
	}
	j.closing = true
	j.mu.Unlock()
	signal(j.work)
	patience := j.patience()
	if j.waitedInVain() {
		patience = 0
	}
	hurry := time.AfterFunc(patience, j.hurry)
	<-j.ended
	hurry.Stop()
	err := j.Failed()
	if err == nil {
		back := j.Outage()
		if back == nil {
			back = j.giveBack()
		}
		if back != nil { // then the next owner waits a while
			j.opt.Logf("mysql: the tables could not be given back: %v", back)
		}
	}
	j.cancel()
	j.readers.Wait()
	j.closedErr = errors.Join(err, j.db.Close())
	return j.closedErr
}
