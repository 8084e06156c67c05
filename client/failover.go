package gmq

import (
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

// askLater asks once more, over the same connection, what may be asked twice; over another one it is asked anyway. c.mu is held.
func (c *Client) askLater(cl *call, l *link) {
	cl.refused++
	time.AfterFunc(c.cfg.pause(cl.refused), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.link != l || c.pending.get(cl.id) != cl {
			return
		}
		if len(c.out) == 0 {
			l.kick()
		}
		if cl.tail == nil { // nobody waits for it any more
			c.pending.remove(cl)
			c.room()
			return
		}
		c.out = appendLine(c.out, cl.id, cl.tail)
		cl.gen = c.outGen
	})
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

// hurry is how long a node of a cluster may be silent while something waits for it, before it is asked whether it is there, and then again
// before another one is tried.
const hurry = 2 * time.Second

// beat is how often it is looked whether the server has said something, and how often it may have said nothing where nobody waits for it.
func (l *link) beat() (every time.Duration, patience int) {
	every = l.c.cfg.heartbeat
	l.c.mu.Lock()
	others := len(l.c.hello.Nodes) > 1 || len(l.c.given) > 1
	l.c.mu.Unlock()
	if !others || every <= hurry {
		return every, 1
	}
	return hurry, int(every / hurry)
}
