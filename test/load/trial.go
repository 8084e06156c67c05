package load

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// A Trial is a server, its clients and what they know. Its owner ends the server and starts it
// again as often as it likes, and calls Begin each time the server is ready.
type Trial struct {
	Lives *Lives
	Main  *Ledger

	t       testing.TB
	server  *harness.Server
	ledgers []*Ledger // all of them
	talks   []*Talk

	stop                  context.CancelFunc
	publishing, consuming sync.WaitGroup
	loud                  *Lives // of the talks
	hush                  context.CancelFunc
	talking               sync.WaitGroup
	faults                []string // that no ledger knows of
}

// A Team is who works for a ledger.
type Team struct {
	Kind
	Consumers int
}

// Mortal is a team for a queue with nacks and dead letters.
func Mortal(queue string) Team {
	return Team{Kind: Kind{Queue: queue, Publishers: 1, Fate: Mixed, Size: Small, Room: 2000, MaxDeliveries: 3}, Consumers: 2}
}

// NewTrial lets teams work, from the first life on. The first one's ledger is Main.
func NewTrial(t testing.TB, server *harness.Server, teams ...Team) *Trial {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	r := &Trial{t: t, server: server, Lives: NewLives(ctx), stop: stop}
	talking, hush := context.WithCancel(ctx)
	r.loud, r.hush = NewLives(talking), hush
	for _, team := range teams {
		r.employ(team)
	}
	r.Main = r.ledgers[0]
	return r
}

func (r *Trial) employ(team Team) {
	r.t.Helper()
	if team.MaxDeliveries > 0 {
		r.server.Dial(r.t).OK(`{"op":"queue.create","queue":"%s","max_deliveries":%d,"retry":{"min":"0s","max":"0s"}}`, team.Queue, team.MaxDeliveries)
	}
	l := NewLedger(team.Kind)
	r.ledgers = append(r.ledgers, l)
	for p := range team.Publishers {
		r.publishing.Go(func() { Publish(r.Lives, l, p) })
	}
	for i := range team.Consumers {
		insists := i%2 == 0 && team.MaxDeliveries == 0 // after an attempt that was nacked, an ack may come late
		r.consuming.Go(func() { Consume(r.Lives, l, insists) })
	}
}

// Talk lets somebody publish to a topic, which reaches a queue that is bound and listeners that are too slow. It has to
// be called before the first life begins.
func (r *Trial) Talk(topic string, listeners int) *Talk {
	r.t.Helper()
	k := &Talk{Topic: topic, Bound: topic + ".bound"}
	c := r.server.Dial(r.t)
	c.OK(`{"op":"queue.create","queue":"%s","max_messages":2000,"overflow":"drop_oldest"}`, k.Bound)
	c.OK(`{"op":"queue.bind","queue":"%s","topic":"%s.>"}`, k.Bound, topic)
	r.talks = append(r.talks, k)
	r.talking.Go(func() { Chat(r.loud, k) })
	for range listeners {
		r.talking.Go(func() { Overhear(r.loud, k) })
	}
	return k
}

// hushed ends the talks, and judges them.
func (r *Trial) hushed() {
	r.t.Helper()
	r.hush()
	r.talking.Wait()
	c := r.server.Dial(r.t)
	for _, k := range r.talks {
		sent, confirmed, _, _, faults := k.Said()
		r.faults = append(r.faults, faults...)
		if n := r.counts(c, k.Bound).Int("published"); n < int64(confirmed) || n > int64(sent) {
			r.fault("%s counts %d published; %d were confirmed to the topic and %d sent", k.Bound, n, confirmed, sent)
		}
	}
}

// Begin tells the clients that the server serves, and gives the number of this life.
func (r *Trial) Begin() int {
	r.loud.Begin(r.server.Addr)
	return r.Lives.Begin(r.server.Addr)
}

// Over is Ledger.Over for all of them.
func (r *Trial) Over(life int) {
	for _, l := range r.ledgers {
		l.Over(life)
	}
	for _, k := range r.talks {
		k.Over(life)
	}
}

// Gone is Ledger.Gone for all of them.
func (r *Trial) Gone() {
	for _, l := range r.ledgers {
		l.Gone()
	}
}

// Acked is how many messages are acked or dead, as far as consumers were told.
func (r *Trial) Acked() (n int) {
	for _, l := range r.ledgers {
		n += l.Counts().Acked
	}
	return n
}

// fault notes what the trial itself has found.
func (r *Trial) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// Faults are what must not be, as far as it is known by now.
func (r *Trial) Faults() []string {
	all := append([]string(nil), r.faults...)
	for _, l := range r.ledgers {
		first, n := l.Faults()
		all = append(all, first...)
		if n > len(first) {
			all = append(all, fmt.Sprintf("%s: and %d faults more", l.Queue, n-len(first)))
		}
	}
	return all
}

// Finish lets the clients empty the queues of the running server, and judges. Faults says what was wrong.
func (r *Trial) Finish() Verdict {
	r.t.Helper()
	for _, l := range r.ledgers {
		l.Stop()
	}
	if !r.server.Running() { // and publishers would wait for it
		r.t.FailNow()
	}
	r.publishing.Wait()
	r.hushed()
	counts := r.drain()
	r.stop()
	r.consuming.Wait()
	var all Verdict
	for _, l := range r.ledgers {
		v := l.Close()
		all = all.And(v)
		c := counts[l.Queue]
		if got := c.Int("published"); got != int64(v.Stored) || v.Delivered != v.Stored {
			r.fault("%s: the server counts %d published; clients know of %d stored and %d delivered", l.Queue, got, v.Stored, v.Delivered)
		}
		if got := c.Int("dead"); got != int64(v.Dead) {
			r.fault("%s: the server counts %d dead; there are %d dead letters", l.Queue, got, v.Dead)
		}
		if dlq := l.Queue + ".dlq"; l.deadly > 0 && counts[dlq].Int("published") != int64(v.Dead) {
			r.fault("%s counts %d published and held %d", dlq, counts[dlq].Int("published"), v.Dead)
		}
	}
	return all
}

// drain waits until the consumers have settled everything, and gives the counts of all queues as
// they are after one more restart, when all who knew them are dead.
func (r *Trial) drain() map[string]harness.Line {
	r.t.Helper()
	counts, before := map[string]harness.Line{}, map[string]string{}
	c := r.server.Dial(r.t)
	for _, l := range r.ledgers {
		harness.Eventually(r.t, l.Queue+" is empty", func() bool {
			now := c.OK(`{"op":"queue.info","queue":"%s"}`, l.Queue).At("counts")
			before[l.Queue] = now.Raw
			return now.Int("ready")+now.Int("delayed")+now.Int("leased") == 0
		})
	}
	r.server.Restart()
	c = r.server.Dial(r.t)
	for name := range before {
		counts[name] = r.counts(c, name)
		if after := counts[name].Raw; after != before[name] {
			r.fault("%s: the counts did not survive a restart:\n%s\n%s", name, before[name], after)
		}
	}
	for _, l := range r.ledgers {
		if l.deadly > 0 {
			counts[l.Queue+".dlq"] = r.exhume(c, l)
		}
	}
	return counts
}

// exhume takes the dead letters of a queue, and gives the counts of theirs before.
func (r *Trial) exhume(c *harness.Conn, l *Ledger) harness.Line {
	r.t.Helper()
	counts := r.counts(c, l.Queue+".dlq")
	for {
		got := c.OK(`{"op":"receive","queue":"%s.dlq","max":1000,"ack":"auto"}`, l.Queue).Each("messages")
		if len(got) == 0 {
			return counts
		}
		for _, m := range got {
			attempts, _ := strconv.Atoi(m.At("headers").Text("gmq-dead-attempts"))
			if p, n, ok := l.identify(m.Fields["body"], uint64(m.Int("seq"))); ok {
				l.buried(p, n, attempts)
			}
		}
	}
}

// counts are a queue's, which must add up.
func (r *Trial) counts(c *harness.Conn, queue string) harness.Line {
	r.t.Helper()
	counts := c.OK(`{"op":"queue.info","queue":"%s"}`, queue).At("counts")
	sum := int64(0)
	for _, name := range []string{"ready", "delayed", "leased", "acked", "expired", "dead", "dropped", "cancelled", "purged", "redriven"} {
		sum += counts.Int(name)
	}
	if sum != counts.Int("published") {
		r.fault("%s: published is not the sum of the others: %s", queue, counts.Raw)
	}
	return counts
}
