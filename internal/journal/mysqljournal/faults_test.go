package mysqljournal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/test/mariadb"
)

// an owner of shard 0 that proposes and waits.
type owner struct {
	t     *testing.T
	j     *Journal
	s     journal.Journal
	woken chan struct{}
	got   []*journal.Batch
}

func own(t *testing.T, j *Journal) *owner {
	t.Helper()
	o := &owner{t: t, j: j, woken: make(chan struct{}, 1)}
	o.s = j.Shard(0, func() { signal(o.woken) })
	return o
}

// replayed are the records that the journal has.
func (o *owner) replayed() (n int) {
	o.t.Helper()
	err := o.s.Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { n++; return nil })
	if err != nil {
		o.t.Fatal(err)
	}
	return n
}

func (o *owner) propose(essential bool, payload string) *journal.Batch {
	b := &journal.Batch{Essential: essential, Data: append(journal.BeginRecord(nil), payload...)}
	journal.EndRecord(b.Data, 0)
	o.s.Propose(b)
	return b
}

// wait waits for the outcome of b, or the journal's end.
func (o *owner) wait(b *journal.Batch) error {
	o.t.Helper()
	patience := time.After(time.Minute)
	for {
		o.got = o.s.Committed(o.got)
		for _, g := range o.got {
			if g == b {
				return b.Err
			}
		}
		if err := o.s.Failed(); err != nil {
			return err
		}
		select {
		case <-o.woken:
		case <-patience:
			o.t.Fatal("no outcome")
		}
	}
}

// keep proposes until it is kept, which takes as long as the fault lasts.
func (o *owner) keep(payload string) {
	o.t.Helper()
	for {
		err := o.wait(o.propose(false, payload))
		if err == nil {
			return
		}
		if !errors.Is(err, journal.ErrUnavailable) && !errors.Is(err, journal.ErrDiskFull) {
			o.t.Fatal(err)
		}
	}
}

func shut(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// Whatever a connection is lost in the middle of: what is confirmed is kept, once, and nothing else is.
func TestLostConnections(t *testing.T) {
	server := mariadb.Get(t)
	dsn := server.Database(t)
	p := newProxy(t, dsn)
	j := open(t, p.dsn)
	o := own(t, j)
	o.replayed()
	seed := rand.Uint64()
	t.Log("seed ", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	var cuts, commits atomic.Int64
	var mu sync.Mutex // guards chance: each connection asks
	p.on(func(q string) action {
		mu.Lock()
		defer mu.Unlock()
		if is(q, "COMMIT") && commits.Add(1)%3 == 0 || chance.IntN(40) == 0 {
			cuts.Add(1)
			return [...]action{{cut: true}, {late: true}}[chance.IntN(2)]
		}
		return action{}
	})
	kept := 0
	for i := range 200 {
		if o.wait(o.propose(i%2 == 0, fmt.Sprint("record ", i))) == nil {
			kept++
		}
	}
	p.on(nil)
	shut(t, j)
	j = open(t, dsn)
	if n := own(t, j).replayed(); n != kept {
		t.Errorf("%d records are there, %d were kept; %d cuts", n, kept, cuts.Load())
	}
	if kept < 50 || cuts.Load() < 20 {
		t.Errorf("%d kept, %d cuts: that was no test", kept, cuts.Load())
	}
	shut(t, j)
}

// Errors that pass: the transaction is done again, or what may be refused is, until it works.
func TestErrorsThatPass(t *testing.T) {
	server := mariadb.Get(t)
	for _, c := range []struct {
		name    string
		on      string
		action  action
		refusal error // of what comes while it lasts
	}{
		{"deadlock", "INSERT INTO gmq_message", action{code: 1213, text: "Deadlock found"}, nil},
		{"lock timeout", "UPDATE gmq_epoch", action{code: 1205, text: "Lock wait timeout exceeded"}, nil},
		{"disk full", "INSERT INTO gmq_message", action{code: 1114, text: "The table 'gmq_message' is full"}, journal.ErrDiskFull},
		{"disk full in the engine", "COMMIT", action{code: 1030, text: `Got error 28 "No space left on device" from storage engine`}, journal.ErrDiskFull},
		{"read-only", "UPDATE gmq_epoch", action{code: 1290, text: "The MariaDB server is running with the --read-only option"}, journal.ErrUnavailable},
		{"no rights", "INSERT INTO gmq_command", action{code: 1142, text: "INSERT command denied"}, journal.ErrUnavailable},
		{"shutting down", "COMMIT", action{code: 1053, text: "Server shutdown in progress"}, journal.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProxy(t, server.Database(t))
			j := open(t, p.dsn)
			o := own(t, j)
			o.replayed()
			var times atomic.Int64
			p.on(func(q string) action {
				if is(q, c.on) {
					times.Add(1)
					return c.action
				}
				return action{}
			})
			first := o.propose(false, "caught in the middle")
			held := 1
			if c.refusal != nil {
				for { // until it has shown
					err := o.wait2(o.propose(false, "refused, or caught as well"))
					if err != nil {
						if !errors.Is(err, c.refusal) {
							t.Errorf("refused with %v", err)
						}
						break
					}
					held++
				}
			}
			essential := o.propose(true, "waits")
			for times.Load() < 3 {
				<-time.After(time.Millisecond)
			}
			p.on(nil)
			for _, b := range []*journal.Batch{first, essential} {
				if err := o.wait(b); err != nil {
					t.Error(err)
				}
			}
			o.keep("all is well again")
			shut(t, j)
			j = open(t, p.dsn)
			if n := own(t, j).replayed(); n != held+2 {
				t.Errorf("%d records, not %d", n, held+2)
			}
			shut(t, j)
		})
	}
}

// wait2 gives a refusal, or nil where none has come soon: the batch waits with others.
func (o *owner) wait2(b *journal.Batch) error {
	for range 20 {
		o.got = o.s.Committed(o.got)
		for _, g := range o.got {
			if g == b {
				return b.Err
			}
		}
		<-time.After(5 * time.Millisecond)
	}
	return nil
}

// A server that is away for a while: what may be refused is, what was proposed before comes through.
func TestServerKilled(t *testing.T) {
	server := mariadb.Get(t)
	server.NeedPrivate(t)
	dsn := server.Database(t)
	j := open(t, dsn)
	o := own(t, j)
	o.replayed()
	o.keep("before")
	server.Kill()
	caught := o.propose(false, "caught")
	for o.wait2(o.propose(false, "x")) == nil {
		t.Log("not refused yet")
	}
	waits := o.propose(true, "waits")
	if err := j.Outage(); err == nil {
		t.Error("there is no outage")
	}
	if err := server.Up(); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*journal.Batch{caught, waits} {
		if err := o.wait(b); err != nil {
			t.Error(err)
		}
	}
	o.keep("after")
	shut(t, j)
}

// A journal whose database is away does not hang at its end, and says that the outcome is unknown.
func TestCloseWhileAway(t *testing.T) {
	p := newProxy(t, mariadb.Get(t).Database(t))
	opt := options(t, p.dsn)
	opt.Patience = 200 * time.Millisecond
	j, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := own(t, j)
	o.replayed()
	o.keep("one")
	p.on(func(string) action { return action{cut: true} })
	o.propose(true, "two")
	for j.Outage() == nil {
		<-time.After(time.Millisecond)
	}
	for _, s := range j.shards {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := j.Close(); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("it closes with %v", err)
	}
}

// Of two owners one can commit. The other one finds out with its next commit, and has confirmed nothing since.
func TestFenced(t *testing.T) {
	server := mariadb.Get(t)
	p := newProxy(t, server.Database(t))
	opt := options(t, p.dsn)
	opt.Takeover = time.Second
	old, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := own(t, old)
	o.replayed()
	o.keep("one")
	frozen, thaw := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	p.on(func(q string) action { // the first stands still, in the middle of a transaction: whatever it says from then on waits
		if is(q, "INSERT INTO gmq_command") && once.CompareAndSwap(false, true) {
			close(frozen)
		}
		if once.Load() {
			<-thaw
		}
		return action{}
	})
	lost := o.propose(false, "two")
	<-frozen
	opt.DSN, opt.Node = p.server.FormatDSN(), "another"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next, err := Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	n := own(t, next)
	if got := n.replayed(); got != 1 {
		t.Errorf("%d records, not 1", got)
	}
	n.keep("two, by the second")
	close(thaw)
	if err := o.wait(lost); !errors.Is(err, ErrFenced) {
		t.Errorf("the first is told: %v", err)
	}
	if err := old.Close(); !errors.Is(err, ErrFenced) {
		t.Errorf("the first closes with %v", err)
	}
	n.keep("three")
	shut(t, next)
}

// An owner that lives is waited for, until it ends.
func TestWaits(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	first := open(t, dsn)
	opt := options(t, dsn)
	opt.Node = "another"
	told, opened := make(chan string, 100), make(chan error)
	opt.Logf = func(format string, args ...any) { told <- fmt.Sprintf(format, args...) }
	var second *Journal
	go func() {
		var err error
		second, err = Open(t.Context(), opt)
		opened <- err
	}()
	if why := <-told; !strings.Contains(why, t.Name()) {
		t.Errorf("it waits, and says %q", why)
	}
	shut(t, first)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	shut(t, second)
}
