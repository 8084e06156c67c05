package gmq

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/gmq/gmq/wire"
)

// A Handler deals with one message. Returning nil acks it; an error gives it
// back with the error's text as the reason, to be delivered again after the
// queue's wait; see [Reject] and [RetryAfter] for other ends. A panic counts as
// an error.
type Handler func(ctx context.Context, m *Message) error

// A verdict is a handler's error that says more than no.
type verdict struct {
	err  error
	opts []NackOption
}

func (v *verdict) Error() string { return v.err.Error() }
func (v *verdict) Unwrap() error { return v.err }

// Reject is for a handler to return: the message goes straight to the
// dead-letter queue.
func Reject(err error) error { return &verdict{err, []NackOption{Dead()}} }

// RetryAfter is for a handler to return: the message is delivered again after d.
func RetryAfter(d time.Duration, err error) error { return &verdict{err, []NackOption{Delay(d)}} }

// workLease is the lease of Work where nothing is said. It is extended while a
// handler runs, so it only says how soon others take over from a dead process.
const workLease = 30 * time.Second

// A worker is one call of Work.
type worker struct {
	c       *Client
	sub     *subscription
	handler Handler
	lease   time.Duration

	mu      sync.Mutex // guards the following
	running map[*Message]context.CancelCauseFunc
}

// Work calls handler for the messages of the queue, n of them at a time, until
// ctx ends or the client is closed. Leases are extended for as long as a
// handler runs. When ctx ends no more messages are taken, running handlers
// finish (their contexts end only when [Grace] is over, the lease is lost or the
// client is closed in haste), and Work returns nil; what was delivered and not
// begun goes back to the queue.
//
// Do not call [Client.Close] from a handler: it waits for the handler.
func (q *Queue) Work(ctx context.Context, n int, handler Handler, opts ...ConsumeOption) error {
	n = max(n, 1)
	cfg := newConsumeConfig(consumeConfig{lease: workLease, grace: -1}, opts)
	cfg.credit = max(cfg.credit, n)
	return work(ctx, n, handler, q.subscription(cfg))
}

// work is Work on any subscription, which has not begun.
func work(ctx context.Context, n int, handler Handler, sub *subscription) error {
	if err := sub.begin(); err != nil {
		return err
	}
	c, cfg := sub.c, &sub.cfg
	w := &worker{
		c: c, sub: sub, handler: handler, lease: cfg.lease,
		running: make(map[*Message]context.CancelCauseFunc),
	}
	c.addWork(1)
	defer c.addWork(-1)
	defer c.unsubscribe(sub)

	alive, stop := w.lifetime(ctx, cfg.grace)
	defer stop()
	var handlers, extender sync.WaitGroup
	done := make(chan struct{})
	if !cfg.autoAck {
		extender.Go(func() { w.extend(alive, done) })
	}
	errs := make(chan error, n)
	for range n {
		handlers.Go(func() { errs <- w.loop(ctx, alive) })
	}
	handlers.Wait()
	close(done)
	extender.Wait()
	err := <-errs
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// addWork counts the Works that Close has to wait for.
func (c *Client) addWork(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.working += n; c.working == 0 {
		c.broadcast()
	}
}

// lifetime makes the context of the handlers: it has the values of ctx, and
// outlives it by the grace.
func (w *worker) lifetime(ctx context.Context, grace time.Duration) (context.Context, func()) {
	alive, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stopClosed := context.AfterFunc(w.c.life, func() { cancel(ErrClosed) })
	end := func() { stopClosed(); cancel(errDone) }
	if grace < 0 {
		return alive, end
	}
	bounded, stop := outlive(ctx, alive, grace)
	return bounded, func() { stop(); end() }
}

// outlive makes a child of parent that ends d after ctx has ended.
func outlive(ctx, parent context.Context, d time.Duration) (context.Context, func()) {
	child, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			cancel(context.Cause(ctx))
		case <-child.Done():
		}
	})
	return child, func() { stop(); cancel(errDone) }
}

// ackWindow is how many acks a handler's loop leaves unconfirmed before it
// waits for the oldest.
const ackWindow = 64

// loop is one of the n: it takes a message, handles it, says what became of it.
func (w *worker) loop(ctx, alive context.Context) error {
	var acks []Acking
	defer func() {
		for _, a := range acks {
			w.confirm(ctx, alive, a)
		}
	}()
	for {
		m, err := w.sub.next(ctx)
		if err != nil {
			return err
		}
		herr, lost := w.handle(alive, m)
		switch {
		case lost || m.auto:
			if herr != nil {
				w.c.cfg.log.Warn("gmq: handler failed", "from", w.sub.name, "seq", m.Seq, "error", herr)
			}
		case herr != nil:
			w.refuse(ctx, alive, m, herr)
		default:
			acks = append(acks, m.AckAsync())
			if len(acks) > ackWindow {
				w.confirm(ctx, alive, acks[0])
				acks = acks[1:]
			}
		}
	}
}

// confirm waits for an ack to be settled; once ctx has ended, no longer than
// Close would.
func (w *worker) confirm(ctx, alive context.Context, a Acking) {
	if a.batch != nil && a.batch.call.opened() != nil {
		var stop func()
		alive, stop = outlive(ctx, alive, w.c.cfg.closeTimeout)
		defer stop()
	}
	if err := a.Wait(alive); err != nil {
		w.c.cfg.log.Warn("gmq: ack failed", "from", w.sub.name, "seq", a.seq, "error", err)
	}
}

// refuse gives a message back with the handler's reason.
func (w *worker) refuse(ctx, alive context.Context, m *Message, herr error) {
	alive, stop := outlive(ctx, alive, w.c.cfg.closeTimeout)
	defer stop()
	opts := []NackOption{Reason(herr.Error())}
	if v, ok := errors.AsType[*verdict](herr); ok {
		opts = append(opts, v.opts...)
	}
	if err := m.Nack(alive, opts...); err != nil {
		w.c.cfg.log.Warn("gmq: nack failed", "from", w.sub.name, "seq", m.Seq, "error", err)
	}
}

// handle runs the handler. lost says that the message belongs to somebody else
// by now.
func (w *worker) handle(alive context.Context, m *Message) (err error, lost bool) {
	ctx, cancel := context.WithCancelCause(alive)
	defer cancel(errDone)
	w.mu.Lock()
	w.running[m] = cancel
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.running, m)
		w.mu.Unlock()
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			w.c.cfg.log.Error("gmq: handler panicked",
				"from", w.sub.name, "seq", m.Seq, "panic", p, "stack", string(debug.Stack()))
		}
		lost = errors.Is(context.Cause(ctx), ErrLeaseLost)
	}()
	return w.handler(ctx, m), false
}

// extend keeps the leases of running handlers alive. It looks four times a
// lease and extends what has less than half of it left.
func (w *worker) extend(alive context.Context, done <-chan struct{}) {
	t := time.NewTicker(max(w.lease/4, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-done:
			return
		}
		for _, m := range w.due(time.Now()) {
			w.extendOne(alive, m)
		}
	}
}

// due lists what needs an extension: running messages, and those that wait for
// a handler. A message that came over a lost connection has no lease any more;
// its ack may still count, so its handler is left alone.
func (w *worker) due(now time.Time) []*Message {
	c := w.c
	var links []uint64
	c.mu.Lock()
	for _, ln := range c.lanes {
		if ln.link != nil {
			links = append(links, ln.link.no)
		}
	}
	c.mu.Unlock()
	var due []*Message
	add := func(m *Message) {
		if slices.Contains(links, m.link) && !m.auto && now.Sub(m.leased) >= w.lease/2 {
			m.leased = now
			due = append(due, m)
		}
	}
	w.sub.mu.Lock()
	for _, m := range w.sub.buf {
		add(m)
	}
	w.sub.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for m := range w.running {
		add(m)
	}
	return due
}

// extendOne asks for another lease. It does not wait longer than that lease
// would last; what comes of it matters only where the message is lost.
func (w *worker) extendOne(alive context.Context, m *Message) {
	ctx, cancel := context.WithTimeout(alive, w.lease/4)
	defer cancel()
	err := m.extend(ctx, w.lease, false)
	if !errors.Is(err, ErrLeaseLost) {
		return
	}
	w.sub.drop(m)
	w.mu.Lock()
	defer w.mu.Unlock()
	if stop := w.running[m]; stop != nil {
		stop(&Error{Code: wire.CodeLeaseLost, Message: "the message has been delivered again"})
	}
}
