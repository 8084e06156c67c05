package sim

import (
	"time"

	"github.com/gmq/gmq/internal/journal"
)

// A remote stands before a shard's journal and does what one does whose storage is elsewhere, such as a database: records have to be
// fetched before they can be read, which may take long; and now and then it is out of reach, and refuses what it may.
type remote struct {
	journal.Journal
	l       *life
	wake    func()
	refused []*journal.Batch
	near    map[journal.Ref]bool // has been fetched, or need not be
	sparse  func(journal.Ref) bool
	vain    bool // what is being fetched takes long
	busy    bool // something is being fetched
}

// open puts a remote before the journal of a shard, where its node's storage is elsewhere.
func (l *life) open(shard int, wake func()) journal.Journal {
	if l.n.w.cfg.Cluster {
		return l.replica(shard, wake) // what it keeps for others is not garbage
	}
	l.journal = l.log.Shard(shard, wake)
	if !l.n.elsewhere {
		return l.journal
	}
	r := &remote{Journal: l.journal, l: l, wake: wake, near: map[journal.Ref]bool{}}
	l.remotes[shard] = r
	return r
}

// refuses reports whether a batch is refused. One that is essential waits rather, as long as there is room for it.
func (l *life) refuses(b *journal.Batch) bool {
	w := l.n.w
	if !l.n.elsewhere || !l.n.fault.away || b.Essential && !w.chance(10) {
		return false
	}
	w.stats.Unavailable++
	b.Base, b.Err = 0, journal.ErrUnavailable
	return true
}

// Propose implements journal.Journal.
func (r *remote) Propose(b *journal.Batch) {
	if r.l.refuses(b) {
		r.refuse(b)
		return
	}
	r.Journal.Propose(b)
}

func (r *remote) refuse(b *journal.Batch) {
	r.refused = append(r.refused, b)
	r.wake()
}

// spread is Propose of a batch of several shards.
func (l *life) spread(b *journal.Batch) {
	if !l.refuses(b) {
		l.log.Spread(b)
		return
	}
	told := map[int]bool{journal.Nobody: true}
	for _, p := range b.Parts {
		if !told[p.Shard] {
			told[p.Shard] = true
			l.remotes[p.Shard].refuse(b)
		}
	}
}

// Committed implements journal.Journal. What was refused comes before what was proposed earlier.
func (r *remote) Committed(into []*journal.Batch) []*journal.Batch {
	into = append(into, r.refused...)
	r.refused = nil
	return r.Journal.Committed(into)
}

// Read implements journal.Journal. A record that was fetched stays where it can be read, but for the time in which nothing can.
func (r *remote) Read(refs []journal.Ref, into [][]byte) ([][]byte, error) {
	w := r.l.n.w
	if r.sparse != nil && len(refs) > 0 && r.sparse(refs[0]) { // a compaction's, which a storage that is elsewhere does not ask for
		return r.Journal.Read(refs, into)
	}
	if r.l.n.fault.away && r.l.n.fault.lapsed {
		return into, journal.ErrUnavailable
	}
	var far []journal.Ref
	for _, ref := range refs {
		if near, known := r.near[ref]; !known {
			r.near[ref] = !w.chance(8)
			if !r.near[ref] {
				far = append(far, ref)
			}
		} else if !near {
			far = append(far, ref)
		}
	}
	if len(far) == 0 {
		return r.Journal.Read(refs, into)
	}
	r.fetch(far)
	if r.vain {
		w.stats.Vain++
		return into, journal.ErrUnavailable
	}
	w.stats.NotYet++
	return into, journal.ErrNotYet
}

// Compact implements journal.Journal.
func (r *remote) Compact() (journal.Compaction, bool) {
	c, ok := r.Journal.Compact()
	if ok {
		r.sparse = c.Sparse
	}
	return c, ok
}

// fetch has records come, one fetch at a time: who wants more asks again.
func (r *remote) fetch(refs []journal.Ref) {
	if r.busy {
		return
	}
	r.busy = true
	w := r.l.n.w
	takes := w.between(50*time.Microsecond, 5*time.Millisecond)
	if w.chance(50) {
		takes = w.between(100*time.Millisecond, 2*time.Second)
		w.after(50*time.Millisecond, func() { r.vain = r.busy; r.tell() })
	}
	w.after(takes, func() {
		for _, ref := range refs {
			r.near[ref] = true
		}
		r.busy, r.vain = false, false
		r.tell()
	})
}

// tell wakes the owner, if its process still lives.
func (r *remote) tell() {
	if r.l.n.life == r.l {
		r.wake()
	}
}

// wander puts a node's storage out of reach for a while, again and again.
func (n *Node) wander() {
	w := n.w
	if w.peace {
		return
	}
	w.after(w.between(2*time.Second, 8*time.Second), n.wander)
	if n.fault.away {
		return
	}
	n.fault.away, n.fault.missed, n.fault.lapsed = true, true, w.chance(3)
	w.note(n.name, "the storage is out of reach")
	w.after(w.between(50*time.Millisecond, 2*time.Second), func() {
		n.fault.away = false
		w.note(n.name, "the storage is back")
		if l := n.life; l != nil {
			for _, r := range l.remotes {
				if r != nil {
					r.wake()
				}
			}
		}
	})
}
