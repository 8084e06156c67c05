package broker

import (
	"runtime"
	"slices"
	"sync"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/spare"
	"github.com/gmq/gmq/wire"
)

// A store is one storage's part of a shard: its state and its journal.
type store struct {
	Storage
	gives      uint8 // the demands that a confirm meets
	state      *queue.State
	journal    journal.Journal
	owed       []owed               // settles of what was delivered with ack auto, that could not be recorded
	tasks      *tasks               // being collected; proposed at the latest at the end of a turn, unless nobody waits for them
	spare      []*tasks             // to be used again
	compaction *compaction          // nil where there is none
	gathering  *gathering           // shard 0's; nil where there is none
	gathered   []*gathering         // shard 0's, those that are whole
	rebased    map[queue.Ref]uint64 // shard 0's: in which round a shared record was proposed anew
	fetching   fetching
	taking     *taking            // an image that is to take the state's place; nil: there is none
	partial    *queue.State       // what came of one that came to nothing
	replicas   journal.Replicated // the journal, where it may have replicas; nil: it has none
	turns      journal.InTurn     // the same, where nodes have the storage in turn; nil: they do not
	inheriting *inheriting        // what the storage holds, which is to be the state; nil: nothing is
	role       journal.Role
	leads      bool             // the shard does, and this storage is served
	reigns     uint32           // in the role's term, so far
	sent       []*journal.Batch // proposed and not back yet, of a journal with replicas
	era        uint32           // of what is claimed in queues: nothing outlives a change of roles
	counted    int              // queues counted towards the limit when last looked
	all        int              // all queues, then
}

// An owed settle is tried again at that time.
type owed struct {
	queue *queue.Queue
	seq   uint64
	at    int64
}

// A making is a queue whose creation has been proposed and not kept yet.
type making struct {
	name     string
	id       uint32
	store    *store
	settings queue.Settings
	parked   []*work    // controls that wait for it
	leaving  []*Session // have ended; they are detached behind what of theirs is parked
	reserved bool       // counts towards the limit
}

// A member is what a shard knows of a session.
type member struct {
	subs  map[uint64]*queue.Consumer
	crews []queue.Crew                     // those of subs, by store; nil: there were none yet
	holds map[*queue.Queue]*queue.Consumer // for the receives of a queue, all together
	waits map[*queue.Consumer]struct{}     // receives that wait

	blocked bool    // the session has enough to carry
	hushed  bool    // the client's node is being shut down, and has been told what it holds
	later   []*work // receives that are answered when it has room again
}

// A shard owns a part of the queues. Everything in it belongs to who holds its baton, mostly its
// goroutine (run), but for what mu guards.
type shard struct {
	b     *Broker
	index int

	mu       sync.Mutex // guards the following
	inbox    []*work
	free     []*work
	unblocks []*Session
	stopped  bool

	baton baton
	over  chan struct{} // closed when run has ended

	stores    []*store
	byName    map[string]*store
	passing   *store // has the ephemeral queues; nil: there can be none
	near      near
	warmth    warmth
	making    map[string]*making
	updates   map[*queue.Queue]*update // proposed and not all kept yet
	members   map[*Session]*member
	bounds    map[*queue.Queue]*bound   // queues that are bound to topics, or were
	leaving   map[*queue.Queue]*journey // dead-letter queues with messages on their way to other shards or storages
	condemned map[*queue.Queue][]uint64 // what messages on their way will push out, kept from consumers
	leads     bool                      // this node does, at least in the first storage with replicas
	whole     uint64                    // the number of the lead in which it does in all of them; 0: it does not
	wholes    uint64                    // how many of those there have been
	alone     int64                     // when it leads without the other storages; unix ns, 0: it does not wait for that
	term      uint64                    // of that leadership
	losses    []loss                    // what nodes are told at the end of the turn
	touched   []*Session                // have an open chunk
	direct    bool                      // in this turn, what there is to send is sent by who takes it
	hushed    []*Session                // of nodes that are being shut down: their clients may have something leased
	now       int64                     // of this turn, unix ns
	chance    uint64                    // state of the jitter's generator
	leased    int                       // as last added to Broker.inFlight
	waited    uint64                    // receives that have waited
	holding   bool                      // its bit of Broker.holding
	watchers  []watcher                 // of documents; shard 0's
	works     []*work
	finished  []*work // since the turn began
	committed []*journal.Batch
	batch     []queue.Delivery // reused by pump
	took      []queue.Delivery // reused by answerReceive
	refs      []journal.Ref
	bodies    [][]byte
	spans     []journal.Span
	scratch   []byte
	delivery  wire.Delivery
	dead      wire.DeadInfo
}

func newShard(b *Broker, index int) *shard {
	sh := &shard{
		b: b, index: index, baton: baton{wake: make(chan struct{}, 1)}, over: make(chan struct{}),
		byName: map[string]*store{}, making: map[string]*making{}, updates: map[*queue.Queue]*update{}, members: map[*Session]*member{},
		bounds: map[*queue.Queue]*bound{}, leaving: map[*queue.Queue]*journey{},
		condemned: map[*queue.Queue][]uint64{},
		chance:    b.opt.Seed + uint64(index)*0x9e3779b97f4a7c15,
	}
	for _, s := range b.opt.Storages {
		st := &store{Storage: s, gives: given(s.Stored), state: queue.New(b.opt.Boot), journal: s.Open(index, sh.wakeOf(&s))}
		if r, ok := st.journal.(journal.Replicated); ok {
			st.replicas = r
		}
		st.turns, _ = st.journal.(journal.InTurn)
		sh.stores = append(sh.stores, st)
		switch {
		case s.Ephemeral:
			sh.passing = st
		default:
			sh.byName[s.Name] = st
		}
	}
	if sh.passing == nil {
		sh.passing = sh.byName["memory"]
	}
	return sh
}

func (sh *shard) signal() { sh.baton.signal() }

// replay restores the shard's states from their journals.
func (sh *shard) replay() error {
	for _, st := range sh.stores {
		err := st.journal.Replay(st.state.LoadSnapshot, func(ref journal.Ref, payload []byte) error {
			_, err := st.state.Apply(queue.Span{Ref: queue.Ref(ref), Size: uint32(len(payload) + journal.HeaderBytes)}, payload)
			st.state.Spans() // Resume retains what is left in the end
			return err
		})
		if err != nil {
			return err
		}
		st.state.Resume(func(spans []queue.Span) { st.journal.Retain(sh.convert(spans)) })
		if st.replicas != nil {
			st.role = st.replicas.Role()
		}
	}
	return nil
}

// post hands a work to the shard.
func (sh *shard) post(w *work) {
	sh.mu.Lock()
	sh.inbox = append(sh.inbox, w)
	first := len(sh.inbox) == 1
	sh.mu.Unlock()
	if first {
		sh.signal()
	}
}

func (sh *shard) newWork() *work {
	sh.mu.Lock()
	if n := len(sh.free); n > 0 {
		w := sh.free[n-1]
		sh.free = sh.free[:n-1]
		sh.mu.Unlock()
		return w
	}
	sh.mu.Unlock()
	return workPool.Get().(*work)
}

// spareWorks and spareBytes bound what is kept to be used again for good. Where many connections are busy there are more works on their way:
// those workPool keeps until the garbage collector wants them.
const spareWorks, spareBytes = 64, 128 << 10

var workPool = sync.Pool{New: func() any { return new(work) }}

// finish ends a work, at the end of the turn: what it was accounted for is given back when
// its replies have been handed over.
func (sh *shard) finish(w *work) {
	if w.acking > 0 {
		w.over = true // ends with its last ack
		return
	}
	sh.finished = append(sh.finished, w)
}

// acked is told that an ack of w has been answered; w may be nil.
func (sh *shard) acked(w *work) {
	if w == nil {
		return
	}
	if w.acking--; w.acking == 0 && w.over {
		sh.finish(w)
	}
}

// giveBack ends the finished works.
func (sh *shard) giveBack() {
	for i, w := range sh.finished {
		sh.finished[i] = nil
		if w.binding && w.s.binding.Add(-1) == 0 {
			signal(w.s.writable)
		}
		if len(w.again) > 0 {
			sh.acksBack(w)
		}
		if w.counted {
			w.s.route.settled(sh.index)
		}
		if w.s != nil {
			w.s.finished(w.cost)
			sh.b.working.Add(-int64(w.requests))
		}
		sh.reuse(w)
	}
	sh.finished = sh.finished[:0]
}

// reuse keeps a work to be used again, if it is not too large for that.
func (sh *shard) reuse(w *work) {
	if w.lapsed {
		return // the journal may still keep its bytes
	}
	if w.batch.Lent && w.batch.Data != nil {
		spare.Put(w.batch.Data)
		w.batch.Data = nil
	}
	if cap(w.batch.Data) > spareBytes || cap(w.text) > spareBytes || cap(w.seqs) > spareBytes/8 {
		return
	}
	*w = work{pubs: w.pubs[:0], acks: w.acks[:0], seqs: w.seqs[:0], receipts: w.receipts[:0], text: w.text[:0], room: w.room[:0], batch: journal.Batch{Data: w.batch.Data[:0]}}
	sh.mu.Lock()
	kept := len(sh.free) < spareWorks
	if kept {
		sh.free = append(sh.free, w)
	}
	sh.mu.Unlock()
	if !kept {
		workPool.Put(w)
	}
}

// unblock is called by a session that has room again.
func (sh *shard) unblock(s *Session) {
	sh.mu.Lock()
	sh.unblocks = append(sh.unblocks, s)
	sh.mu.Unlock()
	sh.signal()
}

// call runs f in the shard's goroutine and waits. It is false where the shard has stopped.
func (sh *shard) call(f func(*shard)) bool {
	done := make(chan struct{})
	w := &work{call: func(sh *shard) { f(sh); close(done) }}
	sh.mu.Lock()
	if sh.stopped {
		sh.mu.Unlock()
		return false
	}
	sh.inbox = append(sh.inbox, w)
	sh.mu.Unlock()
	sh.signal()
	sh.b.await(done)
	return true
}

func (sh *shard) stop() {
	sh.call(func(sh *shard) {
		sh.mu.Lock()
		sh.stopped = true
		sh.mu.Unlock()
	})
}

// turn deals with everything that is there: requests become proposals, what was
// kept becomes replies and deliveries.
func (sh *shard) turn() {
	sh.baton.woken.Store(false)
	sh.baton.kept.Store(false)
	sh.now = sh.b.opt.Now()
	sh.mu.Lock()
	works := append(sh.works[:0], sh.inbox...)
	clear(sh.inbox)
	sh.inbox = sh.inbox[:0]
	unblocks := sh.unblocks
	sh.unblocks = nil
	sh.mu.Unlock()

	if sh.b.failed.Load() { // no promise can be kept any more, so none is made
		for _, w := range works {
			if w.call != nil {
				w.call(sh)
			}
		}
		return
	}
	if sh.alone != 0 && sh.now >= sh.alone {
		sh.lead()
	}
	for _, st := range sh.stores {
		sh.ripen(st)
	}
	for _, s := range unblocks {
		sh.resume(s)
	}
	sh.admitAll(works)
	clear(works)
	sh.works = works[:0]
	for _, st := range sh.stores {
		sh.expire(st)
		sh.proposeDue(st)
	}
	for again := true; again; {
		again = false
		sh.baton.kept.Store(false)
		for _, st := range sh.stores {
			if sh.collect(st) {
				again = true
			}
			if sh.pump(st) {
				again = true
			}
			sh.proposeDue(st)
		}
	}
	for _, st := range sh.stores {
		if err := st.journal.Failed(); err != nil {
			sh.b.fail(err)
		}
	}
	sh.reportLeases()
	if sh.b.failed.Load() {
		return
	}
	sh.held()
	sh.flush()
	sh.giveBack()
	sh.afterwards()
}

// afterwards does some of what nobody waits for.
func (sh *shard) afterwards() {
	behind := false
	for _, st := range sh.stores {
		if st.state.Owes() {
			sh.account(st)
			sh.signal()
			behind = true
		}
		sh.takeImage(st)
		sh.inherit(st)
		sh.compact(st)
		sh.rebase(st)
		behind = behind || st.compaction != nil
	}
	if behind {
		runtime.Gosched() // somebody may be waiting for this processor, who is on the way of a request
	}
}

// reply is the chunk to which replies and deliveries of s are appended in this turn.
func (sh *shard) reply(s *Session) *chunk {
	c := s.open[sh.index]
	switch {
	case c == nil:
		if s.much[sh.index] > 0 {
			c = chunkPool.Get().(*chunk)
		} else {
			c = littlePool.Get().(*chunk)
		}
		s.open[sh.index] = c
		sh.touched = append(sh.touched, s)
	case len(c.b) >= fullChunk:
		return sh.behind(s, c)
	}
	return c
}

// behind is a new chunk behind the open one of s.
func (sh *shard) behind(s *Session, c *chunk) *chunk {
	next := chunkPool.Get().(*chunk)
	next.before, next.ahead, next.promised = c, c.ahead+len(c.b), c.promised
	c.promised = 0
	s.open[sh.index] = next
	return next
}

// replyOf is reply for about n bytes, which do not fit into most chunks.
func (sh *shard) replyOf(s *Session, n int) *chunk {
	c := sh.reply(s)
	if n <= spare.Least || cap(c.b)-len(c.b) >= n {
		return c
	}
	if len(c.b) > 0 {
		c = sh.behind(s, c)
	}
	c.small, c.b = c.b, spare.Get(n)
	return c
}

// flush hands the open chunks to their sessions, the latest first: those are deliveries, as a rule, and what is sent at once costs who comes
// behind it a system call. A message is with its consumer earlier for that, and confirmed later. Proxies keep their order: where a client's
// node has made a new one, the one before it may still have answers to what was asked before.
func (sh *shard) flush() {
	if len(sh.hushed) > 0 {
		sh.tellIdle()
	}
	for _, s := range slices.Backward(sh.touched) {
		if s.proxy == nil {
			sh.sendOpen(s)
		}
	}
	for _, s := range sh.touched {
		if s.proxy != nil {
			sh.sendOpen(s)
		}
	}
	clear(sh.touched)
	sh.touched = sh.touched[:0]
	for _, l := range sh.losses { // behind the replies that have made these subscriptions
		l.proxy.lost(sh.index, l.subs)
	}
	clear(sh.losses)
	sh.losses = sh.losses[:0]
}

// sendOpen hands a session's open chunk to it.
func (sh *shard) sendOpen(s *Session) {
	c := s.open[sh.index]
	s.open[sh.index] = nil
	if c.ahead+len(c.b) > littleChunk/2 {
		s.much[sh.index] = muchLasts
	} else if s.much[sh.index] > 0 {
		s.much[sh.index]--
	}
	s.sendRow(c, sh.direct)
}

func (sh *shard) fail(s *Session, id []byte, err *wire.Error) {
	if s == nil {
		return
	}
	if len(id) > 0 && id[0] == silentID {
		sh.notMadeAgain(s, id, err)
		return
	}
	sh.b.countError(err.Code)
	c := sh.reply(s)
	c.b = wire.AppendError(c.b, id, err)
}

// account passes on which records the state has taken up and given up.
func (sh *shard) account(st *store) {
	retained, released := st.state.Spans()
	if len(retained) > 0 {
		st.journal.Retain(sh.convert(retained))
	}
	if len(released) > 0 {
		st.journal.Release(sh.convert(released))
	}
}

func (sh *shard) convert(spans []queue.Span) []journal.Span {
	sh.spans = sh.spans[:0]
	for _, s := range spans {
		sh.spans = append(sh.spans, journal.Span{Ref: journal.Ref(s.Ref), Size: s.Size})
	}
	return sh.spans
}

// reportLeases keeps the broker's count of leased messages, and wakes the
// shards that wait for it to fall.
func (sh *shard) reportLeases() {
	n := 0
	for _, st := range sh.stores {
		n += st.state.Leased()
	}
	delta := n - sh.leased
	sh.leased = n
	if delta != 0 && sh.b.inFlight.Add(int64(delta)) < int64(sh.b.limits.Load().MaxInFlight) {
		if mask := sh.b.stalled.Swap(0); mask != 0 {
			for i, other := range sh.b.shards {
				if mask&(1<<i) != 0 {
					other.signal()
				}
			}
		}
	}
}

// countQueues brings Broker.counted up to date after queues have come or gone.
func (sh *shard) countQueues() {
	n := 0
	for _, st := range sh.stores {
		counted, all := st.state.Counted()
		sh.b.counted.Add(int64(counted - st.counted))
		sh.b.queues.Add(int64(all - st.all))
		st.counted, st.all = counted, all
		n += all
	}
	sh.near.forget(n)
}

// random is the next of a sequence that Options.Seed decides (splitmix64).
func (sh *shard) random() uint64 {
	sh.chance += 0x9e3779b97f4a7c15
	z := sh.chance
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
