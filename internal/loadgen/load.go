package loadgen

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A usage is what the processors did while it was measured, and how the end of it looked.
type usage struct {
	started           time.Time
	generator, server time.Duration // at the beginning; then what was used
	waiting           int64         // when no more was published
	over              bool
}

func (u *usage) begin(r *run) {
	u.started, u.generator, u.server = time.Now(), processTime(), r.serverTime()
}

func (u *usage) end(r *run) {
	if u.over || u.started.IsZero() {
		return
	}
	u.over = true
	u.generator, u.server = processTime()-u.generator, r.serverTime()-u.server
}

func (r *run) serverTime() time.Duration {
	if r.opt.ServerCPU == nil {
		return 0
	}
	return r.opt.ServerCPU()
}

// waiting is how many messages are confirmed and not delivered where they are to be, about.
func (r *run) waiting() int64 {
	return max(0, r.confirmed.Load()*r.consumedStreams()-r.delivered.Load()-r.dropped.Load())
}

// consumedStreams is how often each message is to be delivered in this run.
func (r *run) consumedStreams() int64 {
	if r.set.Consumers == 0 {
		return int64(r.set.Subscribers)
	}
	return int64(r.set.streams())
}

// behind reports whether a closed loop has published so much more than was delivered that it has to wait: else a
// slow consumer makes the latency a matter of how long it is measured, and the server full.
func (r *run) behind() bool {
	return r.set.Backlog > 0 && r.consumedStreams() > 0 && r.waiting() > int64(r.set.Backlog)*r.consumedStreams()
}

// behindPause is how long a publisher waits before it looks again.
const behindPause = 200 * time.Microsecond

func (r *run) pause(ctx context.Context) {
	t := time.NewTimer(behindPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// load publishes until the end of the run and gives what that took. All of it is answered then, or the run has failed.
func (r *run) load(parent context.Context) *usage {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	s := span{from: r.now() + r.set.Warmup}
	s.until = s.from + r.set.Duration
	if r.set.Messages > 0 {
		s.until = s.from + maxTime
	}
	r.measuring.Store(&s)
	var publishing sync.WaitGroup
	for _, p := range r.publishers {
		r.reading(p.read)
		publishing.Go(func() {
			if err := p.publish(ctx); err != nil {
				r.fail(err)
			}
		})
	}
	published := make(chan struct{})
	go func() { publishing.Wait(); close(published) }()

	u := &usage{}
	begin, end := time.NewTimer(s.from-r.now()), time.NewTimer(s.until-r.now())
	defer begin.Stop()
	defer end.Stop()
	report := r.progress(false)
	defer report.stop()
	for failed, over := r.failed, ctx.Done(); ; {
		select {
		case <-begin.C:
			u.begin(r)
		case <-end.C:
			u.end(r)
		case <-report.tick:
			report.tell()
		case <-failed:
			failed = nil
			cancel()
		case <-over:
			over = nil
			early := span{s.from, max(s.from, min(s.until, r.now()))}
			r.measuring.Store(&early)
		case <-published:
			u.waiting = r.waiting()
			if r.set.Messages == 0 {
				u.end(r)
			}
			return u
		}
	}
}

// drain waits until everything that was confirmed has been delivered and settled, as long as something comes. It
// is false where it did not wait for that.
func (r *run) drain(ctx context.Context) bool {
	report := r.progress(true)
	defer report.stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	over := ctx.Done()
	if ctx.Err() != nil {
		over = nil
	}
	end := time.NewTimer(maxTime) // of a run that was told to end
	defer end.Stop()
	if over == nil {
		end.Reset(r.patience)
	}
	last, since := int64(-1), time.Now()
	for {
		select {
		case <-r.failed:
			return false
		case <-over:
			over = nil
			end.Reset(r.patience)
		case <-end.C:
			return false
		case <-report.tick:
			report.tell()
		case <-look.C:
			left := r.waiting() + r.unsettled()
			if left == 0 {
				return true
			}
			if left != last {
				last, since = left, time.Now()
			} else if time.Since(since) > r.patience {
				return true
			}
		}
	}
}

// unsettled is how many messages were acked, or delivered with AckAuto, and are not settled as far as the server said.
func (r *run) unsettled() (n int64) {
	for _, c := range r.consumers {
		n += max(0, c.unacked.Load())
	}
	return n
}

// A progressReport tells every second how far the run is.
type progressReport struct {
	run                  *run
	ticker               *time.Ticker
	tick                 <-chan time.Time
	published, delivered int64
	draining             bool
}

func (r *run) progress(draining bool) *progressReport {
	p := &progressReport{run: r, draining: draining, published: r.confirmed.Load(), delivered: r.delivered.Load()}
	if r.opt.Progress != nil {
		p.ticker = time.NewTicker(time.Second)
		p.tick = p.ticker.C
	}
	return p
}

func (p *progressReport) tell() {
	r := p.run
	published, delivered := r.confirmed.Load(), r.delivered.Load()
	r.mu.Lock()
	refused := int64(0)
	for _, n := range r.refusals {
		refused += n
	}
	r.mu.Unlock()
	r.opt.Progress(Progress{
		Elapsed: r.now() - r.span().from, Published: published - p.published, Delivered: delivered - p.delivered,
		Waiting: r.waiting(), Refused: refused, Draining: p.draining,
	})
	p.published, p.delivered = published, delivered
}

func (p *progressReport) stop() {
	if p.ticker != nil {
		p.ticker.Stop()
	}
}

// report puts together what was found. left is how many messages the queues hold, judged whether all that was
// confirmed has been waited for.
func (r *run) report(u *usage, left int64, judged bool) *Report {
	s := r.span()
	confirms, deliveries := r.confirms.sum(), r.deliveries.sum()
	rep := &Report{
		Form: 1, Started: u.started.UTC(), Settings: r.set, Generator: thisMachine(r.opt.Version), Server: r.opt.Server,
		Confirm: latencyOf(confirms.latency), EndToEnd: latencyOf(deliveries.latency), Waiting: u.waiting,
		Errors: map[string]int64{}, Accounting: r.account(left, judged), Problems: []string{},
	}
	if u.over {
		rep.CPU = CPU{GeneratorSeconds: u.generator.Seconds(), ServerSeconds: u.server.Seconds()}
	}
	var took, delivering time.Duration
	rep.Published, took = flowOf(confirms, r.set, s)
	rep.Delivered, delivering = flowOf(deliveries, r.set, s)
	rep.Seconds = max(took, delivering).Seconds()
	late := lateness{}
	for _, p := range r.publishers {
		late.messages += p.late.messages
		late.held += p.late.held
		late.most = max(late.most, p.late.most)
	}
	rep.Late = Late{Messages: late.messages, Held: late.held, MaxMicro: micro(late.most)}
	for code, n := range r.refusals {
		rep.Errors[string(code)] = n
	}
	rep.Problems = append(rep.Problems, r.problems(&rep.Accounting)...)
	rep.OK = len(rep.Problems) == 0
	return rep
}

// account adds up what became of every message.
func (r *run) account(left int64, judged bool) Accounting {
	set := &r.set
	sum := account{missing: make([]int64, set.streams())}
	sent := int64(0)
	for i, l := range r.ledgers {
		l.addTo(&sum)
		sent += int64(r.publishers[i].sent)
	}
	a := Accounting{
		Confirmed: sum.confirmed, Refused: sum.refused, Unknown: sent - sum.confirmed - sum.refused,
		Delivered: r.delivered.Load(), Redelivered: r.redelivered.Load(), Dropped: r.dropped.Load(), Left: left,
		Twice: r.faults.twice.Load(), OutOfOrder: r.faults.outOfOrder.Load(), Foreign: r.faults.unknown.Load() + sum.refusedDelivered,
		Unsettled: r.unsettled(), Judged: judged,
	}
	inQueues := int64(0)
	for s := range set.queueCopies() {
		inQueues += sum.missing[s]
	}
	if set.Queues > 0 {
		// What is left may also be delivered and not settled, and then it is not what is missing.
		a.Lost = max(0, inQueues-max(0, left-a.Unsettled))
	}
	for i, c := range r.consumers[set.Consumers:] {
		a.Lost += max(0, sum.missing[set.queueCopies()+i]-c.dropped.Load())
	}
	if !judged && set.Consumers+set.Subscribers > 0 {
		a.Lost = 0
	}
	return a
}

// problems says in words what is wrong.
func (r *run) problems(a *Accounting) (texts []string) {
	r.mu.Lock()
	if r.err != nil {
		texts = append(texts, r.err.Error())
	}
	r.mu.Unlock()
	unsettled := a.Unsettled
	if !a.Judged {
		unsettled = 0 // nobody waited for the replies
	}
	for _, p := range []struct {
		n    int64
		text string
	}{
		{a.Lost, "messages were confirmed and are lost"},
		{a.Twice, "messages were delivered twice, without being called redelivered"},
		{a.OutOfOrder, "messages were delivered out of the order in which their publisher sent them"},
		{a.Foreign, "messages were delivered that were refused or never sent"},
		{unsettled, "messages were acked, and the server did not settle them"},
	} {
		if p.n > 0 {
			texts = append(texts, fmt.Sprintf("%d %s", p.n, p.text))
		}
	}
	if waiting := r.waiting(); a.Judged && a.Lost == 0 && waiting > 0 {
		texts = append(texts, fmt.Sprintf("%d messages are in the queues, and nothing was delivered for %v", waiting, r.patience))
	}
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	return append(texts, r.faults.texts...)
}
