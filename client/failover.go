package gmq

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/gmq/gmq/wire"
)

// addresses are those in a list with commas.
func addresses(list string) []string {
	var all []string
	for a := range strings.SplitSeq(list, ",") {
		if a = strings.TrimSpace(a); a != "" && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		all = []string{list} // which is no address, as the attempt will tell
	}
	return all
}

// address is the one of the latest attempt to connect.
func (c *Client) address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// candidates are the addresses to try, the one behind the latest first: what was lost is the least likely to be there.
func (c *Client) candidates() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.given)
	for _, a := range c.hello.Nodes {
		if !c.cfg.onlyGiven && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	i := slices.Index(all, c.last) + 1
	return slices.Concat(all[i:], all[:i])
}

// attemptMax bounds an attempt to connect where there are other addresses to try.
const attemptMax = 2 * time.Second

// connectAny connects to the first that answers.
func (c *Client) connectAny(ctx context.Context) (*link, error) {
	all, within := c.candidates(), c.cfg.dialTimeout
	if len(all) > 1 {
		within = min(within, attemptMax)
	}
	var errs []error
	for _, addr := range all {
		c.mu.Lock()
		c.last = addr
		c.mu.Unlock()
		l, err := c.connect(ctx, addr, within)
		if err == nil {
			c.greeted(l)
			return l, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	return nil, errors.Join(errs...)
}

// leaderless reports whether a refusal says that a queue had no leader, or lost him with the request.
func leaderless(code wire.Code) bool {
	return code == wire.CodeNoQuorum || code == wire.CodeUnknownOutcome
}

// pause is how long to wait before what was refused so often is asked again.
func (cfg *config) pause(refused int) time.Duration {
	most := min(cfg.backoffMin<<min(refused, 10), max(time.Second, cfg.backoffMin))
	return most/2 + rand.N(most/2+1)
}

// askLater asks once more, over the same connection, what may be asked twice, or was certainly not done; over another one it is asked
// anyway. What is refused meanwhile goes with it, in the order in which it was asked first. c.mu is held.
func (c *Client) askLater(cl *call, l *link, why *Error) {
	cl.refused++
	cl.why.Store(why)
	cl.rests = true
	if l.leaves {
		return
	}
	if l.resting = append(l.resting, cl); len(l.resting) == 1 {
		time.AfterFunc(c.cfg.pause(cl.refused), func() { c.askResting(l) })
	}
}

func (c *Client) askResting(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ln := l.lane
	if ln.link != l {
		return
	}
	slices.SortFunc(l.resting, func(a, b *call) int { return cmp.Compare(a.id, b.id) })
	for _, cl := range l.resting {
		switch {
		case c.pending.get(cl.id) != cl:
		case cl.tail == nil: // nobody waits for it any more
			c.pending.remove(cl)
			c.room(ln)
		default:
			ln.kick()
			ln.out = appendLine(ln.out, cl.id, cl.tail)
			cl.gen, cl.rests = ln.outGen, false
		}
	}
	l.resting = nil
}

// waitFor is false where ctx ends first.
func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// others reports whether there are other nodes to go to. c.mu is held.
func (c *Client) others() bool {
	return len(c.given) > 1 || !c.cfg.onlyGiven && len(c.hello.Nodes) > 1
}

const (
	// glance is how often it is looked whether a node of a cluster has said something.
	glance = 250 * time.Millisecond
	// hurry is how long it may be silent while an answer is due, and calm while messages may come, before it is asked whether it is there.
	hurry = 500 * time.Millisecond
	calm  = 5 * time.Second
	// grace is how long it has then, before another node is tried. A connection that breaks is noticed at once; this is for nodes that
	// stand still, and for networks that swallow everything.
	grace = time.Second
)

// A beat is how a link finds out that nobody is at its other end, in ticks.
type beat struct {
	every        time.Duration
	due, quiet   int // how many may pass in silence where an answer is due, and where none is
	open, answer int // the same where messages may come; and after it was asked
}

func (l *link) beat() beat {
	every := l.c.cfg.heartbeat
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if !l.c.others() || every <= hurry {
		return beat{every: every, due: 1, quiet: 1, open: 1, answer: 1}
	}
	quiet := int(every / glance)
	return beat{every: glance, due: int(hurry / glance), quiet: quiet, open: min(quiet, int(calm/glance)), answer: int(grace / glance)}
}

// patience is how many ticks may pass in silence now. c.mu is held.
func (b *beat) patience(l *link) int {
	ln := l.lane
	if ln.n > ln.held {
		return b.due
	}
	if ln.held > 0 {
		return b.open
	}
	for s := range l.c.subs {
		if s.lane == ln {
			return b.open
		}
	}
	return b.quiet
}

const (
	// moveEvery is how often a client leaves a node for another one as it finds no leaders there, at most: maybe there are none.
	moveEvery = 2 * time.Second
	// moveTries is how often it is looked, each glance/5, whether all is answered that could not be asked again.
	moveTries = 60
)

var errNoLeaders = errors.New("the node finds nobody who leads the queues; another one may")

// moveOn leaves a node that finds no leader for a queue: where it is cut off from the others, it will not find one, and they have one. What
// can be asked again is, at the next node; the rest is waited for. cl was refused. c.mu is held.
func (c *Client) moveOn(l *link, cl *call) {
	if l.leaves || l.lane.link != l {
		return
	}
	switch {
	case l.lane != c.own && cl.refused == 0: // maybe the lead is about to change
		c.lookIn(lookSoon)
		return
	case l.lane != c.own:
	case !c.others() || time.Since(c.moved) < moveEvery:
		return
	default:
		c.moved = time.Now()
	}
	l.leaves, l.draining = true, true
	c.leaveWhenDone(l, moveTries)
}

// closes is told that a server is closing down. A single node is left: the client has another way.
func (c *Client) closes(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.draining = true; l.lane == c.own {
		return
	}
	c.steer()
	if !l.leaves {
		l.leaves = true
		c.leaveWhenDone(l, moveTries)
	}
}

func (c *Client) leaveWhenDone(l *link, tries int) {
	time.AfterFunc(glance/5, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		ln := l.lane
		if ln.link != l {
			return
		}
		for _, cl := range c.of(ln) {
			if tries > 0 && !cl.again() && cl.gen != ln.outGen && cl.kind <= callBatch {
				c.leaveWhenDone(l, tries-1)
				return
			}
		}
		l.fail(errNoLeaders)
	})
}
