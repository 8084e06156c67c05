package cluster

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/journal"
)

// A trio is three hosts with one group, stepped by hand: nothing happens unless the test says so.
type trio struct {
	hosts    [3]*Host
	logs     [3]*scriptLog
	journals [3]*Journal
	told     [3][]string
	errs     [3][]error
	post     [][3]any // to, from, packet
	hangs    int      // the log of that number keeps nothing; -1: none does
	busy     int      // the shard of that number takes nothing
	cut      int      // the node of that number hears and says nothing
	carried  [3]int   // bytes that it was sent
}

// Notify is called with each answer.
func (l *scriptLog) Notify(kept func()) { l.kept = kept }

func newTrio(t *testing.T) *trio {
	t.Helper()
	c := &trio{hangs: -1, cut: -1, busy: -1}
	for i := range c.hosts {
		h, err := New(Config{ID: uint64(i + 1), Groups: 1, Wake: func() {}, Send: func(to uint64, packet []byte) {
			if i != c.cut && int(to)-1 != c.cut {
				c.post = append(c.post, [3]any{to, uint64(i + 1), packet})
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		c.hosts[i], c.logs[i] = h, &scriptLog{end: 1 << 32}
		c.journals[i] = h.Journal(0, func() {}, func(func()) Log { return c.logs[i] })
		err = c.journals[i].Replay(nil, func(journal.Ref, []byte) error { return nil })
		if err == nil {
			err = c.journals[i].Begin([]uint64{1, 2, 3})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.run()
	c.hosts[0].Campaign(0)
	c.run()
	if !c.journals[0].Role().Leading {
		t.Fatal("node 1 does not lead")
	}
	return c
}

// run lets everything happen that can.
func (c *trio) run() {
	for again := true; again; {
		again = false
		for i, h := range c.hosts {
			h.Turn()
			for len(c.logs[i].appended) > 0 && i != c.hangs {
				c.logs[i].answer(nil)
				again = true
			}
			for _, b := range c.taken(i) {
				again = true
				if b.Err != nil {
					c.errs[i] = append(c.errs[i], b.Err)
				}
				for at := 0; b.Err == nil && at < len(b.Data); {
					var payload []byte
					payload, at = journal.NextRecord(b.Data, at)
					c.told[i] = append(c.told[i], string(payload))
				}
			}
		}
		for _, p := range c.post {
			c.carried[p[0].(uint64)-1] += len(p[2].([]byte))
			c.hosts[p[0].(uint64)-1].Deliver(p[1].(uint64), p[2].([]byte))
			again = true
		}
		c.post = nil
	}
	for i := range c.journals { // roles come one at a time
		c.taken(i)
	}
}

// taken is what the shard of node i takes.
func (c *trio) taken(i int) []*journal.Batch {
	if i == c.busy {
		return nil
	}
	return c.journals[i].Committed(nil)
}

func (c *trio) tick(n int) {
	for range n {
		for _, h := range c.hosts {
			h.Tick()
		}
		c.run()
	}
}

// A leader whose disk hangs gives up leading, before anybody has to find out that it is gone. What it has proposed meanwhile and
// the others have kept is told to it when its disk goes on.
func TestHangingDiskGivesUpTheLead(t *testing.T) {
	c := newTrio(t)
	c.hangs = 0
	c.journals[0].Propose(batchOf("kept by the others"))
	c.run()
	if c.told[0] != nil {
		t.Fatal("it was told before its own log had it: its place was not known")
	}
	c.tick(15)
	if c.journals[0].Role().Leading || !c.journals[1].Role().Leading && !c.journals[2].Role().Leading {
		t.Fatalf("roles: %+v, %+v, %+v", c.journals[0].Role(), c.journals[1].Role(), c.journals[2].Role())
	}
	c.hangs = -1
	c.tick(2)
	for i := range c.told {
		if want := []string{"kept by the others"}; !slices.Equal(c.told[i], want) || c.errs[i] != nil {
			t.Errorf("node %d: %q, %v", i+1, c.told[i], c.errs[i])
		}
	}
}

// A member that was away and answers late, as its disk is slow, is not sent what it lacks once for each sign of life; what was lost it is sent at once.
func TestWhatAMemberLacksIsSentOnce(t *testing.T) {
	c := newTrio(t)
	c.cut = 2
	const size = 400 << 10
	c.journals[0].Propose(batchOf(strings.Repeat("x", size)))
	c.run()
	c.hosts[0].Unreachable(3)
	c.tick(5)
	c.cut, c.hangs, c.carried = -1, 2, [3]int{}
	c.tick(8)
	if c.carried[2] < size || c.carried[2] > 2*size {
		t.Errorf("of %d bytes it lacks it was sent %d", size, c.carried[2])
	}
	c.hosts[0].Unreachable(3)
	c.tick(2)
	if c.carried[2] < 2*size {
		t.Errorf("what it was sent was lost, and did not come again: %d bytes", c.carried[2])
	}
	c.hangs = -1
	c.tick(2)
	if len(c.told[2]) != 1 {
		t.Errorf("it has been told %d records", len(c.told[2]))
	}
}

// A leader that nobody hears leads no longer than an election takes, and what it has proposed is overruled by what the others decide.
func TestCutOffLeaderIsOverruled(t *testing.T) {
	c := newTrio(t)
	c.cut = 0
	c.journals[0].Propose(batchOf("mine"))
	c.tick(45)
	leader := 1
	if c.journals[2].Role().Leading {
		leader = 2
	}
	if c.journals[0].Role().Leading || !c.journals[leader].Role().Leading {
		t.Fatalf("roles: %+v, %+v, %+v", c.journals[0].Role(), c.journals[1].Role(), c.journals[2].Role())
	}
	c.journals[0].Propose(batchOf("too late"))
	c.journals[leader].Propose(batchOf("theirs"))
	c.run()
	c.cut = -1
	c.tick(30)
	for i := range c.told {
		if !slices.Equal(c.told[i], []string{"theirs"}) {
			t.Errorf("node %d: %q", i+1, c.told[i])
		}
	}
	if want := []error{journal.ErrNotLeading, journal.ErrOverruled}; !slices.Equal(c.errs[0], want) {
		t.Errorf("who was cut off is told %v, want %v", c.errs[0], want)
	}
}

// All groups of a node tick together: what they say to another node in a tick is one packet.
func TestHeartbeatsTravelTogether(t *testing.T) {
	h, err := New(Config{ID: 1, Groups: 16, Wake: func() {}, Send: func(uint64, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	sent := map[uint64]int{}
	var bytes int
	logs := make([]*scriptLog, 16)
	for i := range logs {
		logs[i] = &scriptLog{end: 1 << 32}
		j := h.Journal(i, func() {}, func(func()) Log { return logs[i] })
		if err := j.Replay(nil, func(journal.Ref, []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := j.Begin([]uint64{1, 2}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range logs {
		settle(h, logs[i])
	}
	h.cfg.Send = func(to uint64, packet []byte) {
		sent[to]++
		bytes += len(packet)
	}
	for range 25 { // somebody wants to be elected in each of the groups
		h.Tick()
		before := sent[2]
		h.Turn()
		if sent[2] > before+1 {
			t.Fatalf("%d packets in a tick", sent[2]-before)
		}
	}
	if sent[2] == 0 || bytes > 25*16*40 {
		t.Errorf("%d packets of %d bytes together", sent[2], bytes)
	}
}

// What came before a group begins anew is heard by the group that it was meant for, though both happen in one turn.
func TestRenewalBehindPackets(t *testing.T) {
	c := newTrio(t)
	c.journals[0].Propose(batchOf("kept"))
	c.run()
	c.hosts[0].Tick()
	c.hosts[0].Turn()
	heartbeats := 0
	var late [][3]any
	for _, p := range c.post {
		if p[0].(uint64) == 2 { // it says how far is committed, of what this group has no more in a moment
			c.hosts[1].deliver(1, p[1].(uint64), bytes.Clone(p[2].([]byte)))
			late = append(late, p)
			heartbeats++
		}
	}
	c.post = nil
	c.hosts[1].Renew(2, []uint64{1})
	c.hosts[1].Turn()
	for _, p := range late { // it was looked at in the epoch before, and comes in this one
		c.hosts[1].deliver(1, p[1].(uint64), p[2].([]byte))
	}
	c.hosts[1].Turn()
	if err := c.hosts[1].Failed(); err != nil || heartbeats == 0 {
		t.Fatalf("%d heartbeats, then: %v", heartbeats, err)
	}
	if c.hosts[1].Epoch() != 2 || len(c.post) > 0 {
		t.Errorf("epoch %d, and %d packets of the one before are said in it", c.hosts[1].Epoch(), len(c.post))
	}
}

// TestNoteBeforeMoves: the log says how far is applied before it says that something lies elsewhere now. An entry may have moved a message, so that
// a restart which knew of that entry later would not know whose record it is, and look for it where it was.
func TestNoteBeforeMoves(t *testing.T) {
	c := newTrio(t)
	c.journals[0].Propose(batchOf("a message moves"))
	c.run()
	c.tick(1)
	j, log := c.journals[1], c.logs[1]
	if len(log.appended) > 0 || j.applied <= originIndex {
		t.Fatalf("%d batches are on their way, and %d is applied", len(log.appended), j.applied)
	}
	for _, want := range []int{2, 1} { // the second time it has been said
		b := batchOf("it lies elsewhere")
		b.Local = true
		j.Propose(b)
		if len(log.appended) != want || log.appended[want-1] != b {
			t.Fatalf("%d batches are appended, want %d, the last of them the record", len(log.appended), want)
		}
		if want == 2 {
			note := log.appended[0]
			payload, _ := journal.NextRecord(note.Data, 0)
			m, err := parseMark(payload)
			if err != nil || m.kind != markState || m.commit != j.applied || m.term != 0 || len(note.Parts) != 1 || !note.Parts[0].Mark {
				t.Fatalf("%+v, %v; want that %d is committed", m, err, j.applied)
			}
			// It changes neither term nor vote.
			p := &replayer{st: &storage{}}
			p.st.hard.Term, p.st.hard.Vote = new(uint64(7)), new(uint64(2))
			if p.state(&m); p.st.hard.GetTerm() != 7 || p.st.hard.GetVote() != 2 || p.commit != j.applied {
				t.Errorf("term %d, vote %d, committed %d", p.st.hard.GetTerm(), p.st.hard.GetVote(), p.commit)
			}
		}
		c.run()
	}
}
