package cluster

import (
	"strings"
	"testing"
	"time"
)

// A lagging is a trio whose node 3 was away for a while, on a clock of the test.
type lagging struct {
	*trio
	now  time.Duration
	body string
}

func newLagging(t *testing.T, entries, size int) *lagging {
	c := &lagging{trio: newTrio(t), body: strings.Repeat("x", size)}
	for _, h := range c.hosts {
		h.cfg.Now = func() time.Duration { return c.now }
	}
	c.cut = 2
	for range entries {
		c.journals[0].Propose(batchOf(c.body))
		c.run()
	}
	c.load(oldTicks + 2)
	c.hosts[0].Unreachable(3)
	c.run()
	c.cut, c.carried = -1, [3]int{}
	return c
}

// load is n ticks, in each of which something new comes.
func (c *lagging) load(n int) {
	for range n {
		c.journals[0].Propose(batchOf("new"))
		c.tick(1)
	}
}

// behind is how many records node 3 lacks.
func (c *lagging) behind() int { return len(c.told[0]) - len(c.told[2]) }

// Who is behind gets a portion, and the next one only after a pause, as long as new entries come. When none come it gets all.
func TestWhoIsBehindIsPaced(t *testing.T) {
	const size, small = 100 << 10, 10 << 10
	c := newLagging(t, 60, size)
	c.hangs = 2
	c.load(8)
	if c.carried[2] < size || c.carried[2] > portionBytes+size+small {
		t.Fatalf("it was sent %d bytes before it has kept any", c.carried[2])
	}
	c.now += 30 * time.Millisecond
	c.hangs = -1
	c.run()
	first := c.carried[2]
	if c.load(2); c.carried[2] > first+small {
		t.Errorf("it was sent %d bytes in the pause", c.carried[2]-first)
	}
	c.now += pauseTimes*30*time.Millisecond - 1
	if c.load(1); c.carried[2] > first+small {
		t.Errorf("it was sent %d bytes at the end of the pause", c.carried[2]-first)
	}
	c.now++
	c.hangs = 2
	if c.load(1); c.carried[2] < first+size || c.carried[2] > first+portionBytes+size+small {
		t.Errorf("it was sent %d bytes after the pause", c.carried[2]-first)
	}
	c.now += time.Second
	c.hangs = -1
	c.run()
	if got := c.behind(); got < 50 {
		t.Fatalf("it lacks %d records", got)
	}
	if c.tick(c.hosts[0].cfg.ElectionTicks + 1); c.behind() != 0 {
		t.Errorf("it lacks %d records after a while without load", c.behind())
	}
}

// A portion of which nothing is heard any more does not stop the next one.
func TestLostPortion(t *testing.T) {
	c := newLagging(t, 20, 100<<10)
	h := c.hosts[0]
	h.pace.open, h.pace.flights, h.pace.beganIn = true, []flight{{0, 4, 1}}, h.now
	if c.load(5); c.behind() < 20 {
		t.Fatalf("it lacks %d records, though a portion is under way", c.behind())
	}
	for range 60 {
		c.now += nominalTick
		c.load(1)
	}
	if c.behind() > 1 {
		t.Errorf("it lacks %d records", c.behind())
	}
}

// It comes nearer though more comes between two portions than a portion holds.
func TestBehindUnderLoad(t *testing.T) {
	c := newLagging(t, 40, 100<<10)
	for range 60 {
		c.hangs = 2
		for range 3 {
			c.journals[0].Propose(batchOf(c.body))
		}
		c.tick(1)
		if c.now += nominalTick; c.hosts[0].pace.open || !c.hosts[0].groups[0].storage.paced {
			c.hangs = -1
			c.run() // what was sent is kept
		}
	}
	if c.behind() > 10 {
		t.Errorf("it lacks %d records", c.behind())
	}
}

// What is to be decided does not wait for a pause.
func TestNeededMemberIsNotPaced(t *testing.T) {
	c := newLagging(t, 40, 100<<10)
	paced := &c.hosts[0].groups[0].storage.paced
	c.hangs = 2
	if c.load(2); !*paced || !c.hosts[0].pace.open {
		t.Fatal("it is not paced while the others are a majority")
	}
	c.now += time.Second // so there is a long pause behind the portion that is under way
	c.hangs = 1
	c.load(oldTicks + 3) // in the pause
	if c.behind() > 1 {
		t.Errorf("it lacks %d records, though nothing is decided without it", c.behind())
	}
}

// Behind an answer with a part of an image there is a pause of twice the time until more is asked for, unless nobody else needs the node, or more comes
// meanwhile than was sent.
func TestImagesArePaced(t *testing.T) {
	for _, c := range []struct {
		name string
		busy bool
		load int64
		wait time.Duration
	}{
		{"load", true, 1000, 40 * time.Millisecond},
		{"much load", true, portionBytes, 0},
		{"no load", false, 0, 0},
	} {
		var now time.Duration
		sent := 0
		h, err := New(Config{ID: 1, Groups: 1, Wake: func() {}, Send: func(uint64, []byte) {},
			SendImage: func(uint64, []byte) { sent++ }, Now: func() time.Duration { return now }})
		if err != nil {
			t.Fatal(err)
		}
		i := h.Images()
		i.left = 1 << 30
		h.pace.busy.Store(c.busy)
		i.pace.answered(i, portionBytes)
		h.pace.entered.Add(c.load)
		now += 20 * time.Millisecond
		i.receive(2, frame{kind: frameAskRecords, image: 7})
		if now += c.wait - 1; c.wait > 0 {
			if i.answer(); sent > 0 {
				t.Errorf("%s: answered before the end of the pause", c.name)
			}
		}
		now++
		if i.answer(); sent != 1 {
			t.Errorf("%s: %d answers at the end of the pause", c.name, sent)
		}
	}
}
