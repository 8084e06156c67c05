package tenure

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gmq/gmq/internal/journal"
)

const self, other = 7, 8

var (
	errFenced = errors.New("another process has them")
	errDown   = errors.New("the database is away")
)

// A fake is tables that keep nothing.
type fake struct {
	shards  []*held
	shared  bool
	left    bool
	closed  bool
	failure error
	broken  int // reads that fail
}

// A held shard gives back what it has kept when the test lets it.
type held struct {
	*journal.Memory
	f        *fake
	holds    bool
	replayed int
}

func (h *held) Committed(into []*journal.Batch) []*journal.Batch {
	if h.holds {
		return into
	}
	return h.Memory.Committed(into)
}

func (h *held) Failed() error { return h.f.failure }

func (h *held) Replay(func([]byte) error, func(journal.Ref, []byte) error) error {
	h.replayed++
	if h.f.broken > 0 {
		h.f.broken--
		return errDown
	}
	return nil
}

func (f *fake) Shard(i int, wake func()) journal.Journal {
	if f.shards == nil {
		f.shards = make([]*held, 1)
	}
	f.shards[i] = &held{Memory: journal.NewMemory(journal.NewBudget(0), wake), f: f}
	return f.shards[i]
}
func (f *fake) Spread(*journal.Batch) {}
func (f *fake) Share()                { f.shared = true }
func (f *fake) Failed() error         { return f.failure }
func (f *fake) Leave() error          { f.left = true; return nil }
func (f *fake) Close() error          { f.closed = true; return nil }

// A rig is a holder of one shard, in a bubble.
type rig struct {
	t      *testing.T
	h      *Holder
	s      *Shard
	opened []*fake

	mu   sync.Mutex // guards the following
	told []Tables
	down error // of the next openings
}

func newRig(t *testing.T, alone Tables) *rig {
	r := &rig{t: t}
	r.h = New(Options{
		Shards: 1, Node: self, Alone: alone, Logf: t.Logf,
		Lost: func(err error) bool { return errors.Is(err, errFenced) },
		Told: func(now Tables, _ uint64) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, now)
		},
		Open: func(ctx context.Context) (Tables, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.down != nil {
				return nil, r.down
			}
			r.opened = append(r.opened, &fake{})
			return r.opened[len(r.opened)-1], nil
		},
	})
	r.s = r.h.Shard(0, func() {}).(*Shard)
	return r
}

func (r *rig) set(down error) {
	r.mu.Lock()
	r.down = down
	r.mu.Unlock()
}

// tick lets ticks pass under a leader.
func (r *rig) tick(n int, leader, term uint64) {
	for range n {
		r.h.Tick(leader, term, nil)
	}
	synctest.Wait()
}

// look does what the owner does in a turn, and gives what has come back.
func (r *rig) look() []*journal.Batch { return r.s.Committed(nil) }

func (r *rig) role(what string, leading bool, leader, term uint64) {
	r.t.Helper()
	r.look()
	if want := (journal.Role{Leading: leading, Leader: leader, Term: term}); r.s.Role() != want {
		r.t.Errorf("%s: %+v, not %+v", what, r.s.Role(), want)
	}
}

// inherit lets the owner take what there is.
func (r *rig) inherit() bool {
	e := r.s.Estate()
	if e == nil {
		return false
	}
	if err := e.Replay(nil, nil); err != nil || e.Over() {
		return false
	}
	e.Taken()
	return true
}

func batch(text string) *journal.Batch {
	data := journal.BeginRecord(nil)
	data = append(data, text...)
	journal.EndRecord(data, 0)
	return &journal.Batch{Data: data}
}

// A server alone has the tables, keeps them when others join, and gives them up when another one leads.
func TestAloneThenShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alone := &fake{}
		r := newRig(t, alone)
		r.role("alone", true, self, 0)
		r.tick(200, other, 3)
		r.role("nobody listens to ticks", true, self, 0)
		if err := r.s.Begin(nil); err != nil || !alone.shared {
			t.Fatal(err, alone.shared)
		}
		r.tick(1, 0, 1)
		r.role("nobody is elected yet", true, self, 0)
		r.tick(1, self, 2)
		r.role("elected", true, self, 2)
		if r.s.Estate() != nil || len(r.opened) > 0 {
			t.Error("what it has is made anew")
		}
		r.s.Propose(batch("kept"))
		r.tick(1, other, 3)
		if !alone.left {
			t.Error("the tables are not given back")
		}
		if got := r.look(); len(got) != 1 || got[0].Err != nil || !r.s.Role().Leading {
			t.Errorf("what had been kept comes back as %v, under %+v", got, r.s.Role())
		}
		r.role("another one leads", false, other, 3)
		late := batch("late")
		r.s.Propose(late)
		if got := r.look(); len(got) != 1 || !errors.Is(late.Err, journal.ErrNotLeading) {
			t.Error(got, late.Err)
		}
		if !r.inherit() || r.s.Estate() != nil {
			t.Error("the state of before is not given up, or twice")
		}
		if _, err := r.s.Read([]journal.Ref{1}, nil); !errors.Is(err, journal.ErrUnavailable) {
			t.Error(err)
		}
		if len(r.told) != 2 || r.told[1] != nil {
			t.Error(r.told)
		}
		if err := r.h.Close(); err != nil || alone.closed {
			t.Error(err, alone.closed)
		}
	})
}

// A node that comes to lead gets the tables, and leads when its state is made of them.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.h.Share()
		r.tick(1, other, 4)
		r.role("another one leads", false, other, 4)
		if r.inherit() {
			t.Error("there is nothing to take over")
		}
		r.tick(1, self, 5)
		r.role("before the state is there", false, self, 5)
		e := r.s.Estate()
		r.tick(1, self, 6) // lost and won between two looks
		if !e.Over() || !r.opened[0].left || len(r.opened) != 2 {
			t.Fatal("the first tenure goes on")
		}
		r.look()
		if !r.inherit() {
			t.Fatal("there is nothing to take over")
		}
		r.role("the state is there", true, self, 6)
		if n := r.opened[1].shards[0].replayed; n != 1 || !r.opened[1].shared {
			t.Error(n, r.opened[1].shared)
		}
		r.tick(1, 0, 6)
		r.role("a majority is away", false, 0, 6)
		if r.tick(1, self, 7); len(r.opened) != 3 {
			t.Error("it leads again, and the tables are not opened")
		}
		if err := r.h.Close(); err != nil || !r.opened[2].closed {
			t.Error(err)
		}
	})
}

// Whoever is fenced ends nothing but its turn; unless nobody of the cluster comes to lead.
func TestFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.h.Share()
		r.tick(1, self, 5)
		r.inherit()
		r.role("leads", true, self, 5)
		r.opened[0].failure = errFenced
		if err := r.s.Failed(); err != nil {
			t.Error(err)
		}
		r.role("fenced", false, self, 5)
		if r.tick(50, self, 5); len(r.opened) != 1 {
			t.Error("the tables are opened again in the same term")
		}
		r.role("fenced, and leads without them", false, self, 5)
		r.tick(1, other, 6)
		r.tick(1, self, 7)
		if r.inherit(); len(r.opened) != 2 {
			t.Error("the tables are not opened in another term")
		}
		r.role("leads again", true, self, 7)
		r.opened[1].failure = errDown
		if err := r.s.Failed(); !errors.Is(err, errDown) {
			t.Error("a failure that is no fence:", err)
		}
		r.opened[1].failure = errFenced
		if err := r.s.Failed(); err != nil {
			t.Error(err)
		}
		if r.tick(strangeTicks+1, self, 7); r.s.Failed() == nil {
			t.Error("a stranger has the tables, and the node goes on")
		}
	})
}

// A leader that cannot have the tables leads without them after a while, until it has them.
func TestBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.h.Share()
		r.set(errDown)
		r.tick(blindTicks-1, self, 5)
		r.role("it waits", false, self, 5)
		if r.s.Lacking() != nil || !r.h.Wants() {
			t.Error(r.s.Lacking(), r.h.Wants())
		}
		r.tick(1, self, 5)
		r.role("it goes on without them", true, self, 5)
		if err := r.s.Lacking(); !errors.Is(err, errDown) {
			t.Error(err)
		}
		b := batch("nowhere")
		if r.s.Propose(b); !errors.Is(b.Err, journal.ErrUnavailable) {
			t.Error(b.Err)
		}
		r.set(nil)
		<-r.after()
		r.role("what they hold is on its way", true, self, 5)
		if !errors.Is(r.s.Lacking(), errDown) || !r.inherit() {
			t.Error("it has come without its state")
		}
		r.role("it has them", true, self, 5)
		if r.s.Lacking() != nil {
			t.Error(r.s.Lacking())
		}
		r.h.Tick(other, 6, nil)
		r.role("lost", false, other, 6)
		r.h.Tick(self, 7, errDown)
		if r.role("blind with a state of before", false, self, 7); !r.inherit() {
			t.Error("the state of before stays")
		}
		r.role("unfit", true, self, 7)
	})
}

// Tables that cannot be read are read again, for as long as they are this node's.
func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.h.Share()
		r.tick(1, self, 5)
		r.opened[0].broken = 2
		e := r.s.Estate()
		for range 2 {
			if err := e.Replay(nil, nil); err == nil || e.Over() {
				t.Error(err, e.Over())
			}
			r.role("they cannot be read", false, self, 5)
		}
		if err := e.Replay(nil, nil); err != nil {
			t.Error(err)
		}
		e.Taken()
		r.role("read", true, self, 5)
		if err := r.h.Close(); err != nil {
			t.Error(err)
		}
	})
}

// after is over when the tables have been tried again.
func (r *rig) after() <-chan struct{} {
	over := make(chan struct{})
	go func() {
		for r.h.Wants() {
			pause(nil)
		}
		close(over)
	}()
	return over
}
