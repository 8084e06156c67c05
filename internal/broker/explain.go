package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// peek shows messages and changes none. It is false where it has been put aside.
func (sh *shard) peek(w *work, c *control, t target) bool {
	if c.quiet {
		return true
	}
	r := sh.reply(w.s)
	start := len(r.b)
	r.b = append(wire.AppendOK(r.b, c.id), `,"messages":[`...)
	views := t.store.state.Peek(t.queue, c.state, c.after, c.max)
	for i, v := range views {
		if len(r.b)-start >= OutLimit {
			break
		}
		payloads, err := t.store.journal.Read([]journal.Ref{journal.Ref(v.Span.Ref)}, nil)
		if errors.Is(err, journal.ErrNotYet) {
			r.b = r.b[:start]
			sh.wish(t.store, views[i:])
			t.store.fetching.park(journal.Ref(v.Span.Ref), w)
			return false
		}
		if errors.Is(err, journal.ErrUnavailable) {
			r.b = r.b[:start]
			sh.fail(w.s, c.id, t.store.unavailable(err))
			return true
		}
		if err == nil {
			err = sh.view(t.queue, &v, payloads[0])
		} else {
			err = unreadable(t.queue, v.Seq, err)
		}
		if err != nil {
			sh.b.fail(err)
			return true
		}
		if i > 0 {
			r.b = append(r.b, ',')
		}
		r.b = wire.AppendDelivery(r.b, &sh.delivery)
	}
	r.b = append(r.b, "]}\n"...)
	return true
}

// wish has the journal fetch together what a peek is going to show.
func (sh *shard) wish(st *store, views []queue.View) {
	sh.refs = sh.refs[:0]
	for i, bytes := 0, 0; i < len(views) && bytes < OutLimit; i++ {
		sh.refs = append(sh.refs, journal.Ref(views[i].Span.Ref))
		bytes += int(views[i].Span.Size)
	}
	_, _ = st.journal.Read(sh.refs, nil) // what it has not got yet it fetches
}

// view makes sh.delivery what a client is shown of a message.
func (sh *shard) view(q *queue.Queue, v *queue.View, record []byte) error {
	e, err := queue.ParseEnvelope(record)
	if err != nil {
		return fmt.Errorf("queue %q, message %d: %w", q.Name, v.Seq, err)
	}
	key, topic := e.Names()
	sh.delivery = wire.Delivery{
		Queue: q.Name, Seq: v.Seq, Attempt: v.Attempt, Published: e.Published, State: v.State, Until: v.Until,
		Headers: e.Headers, Key: key, Topic: topic, Base64: e.Base64, Body: e.Body,
	}
	if v.Dead != nil {
		sh.dead = deadInfo(v.Dead)
		sh.delivery.Dead = &sh.dead
	}
	return nil
}

// explain says why a message is not being delivered.
func (sh *shard) explain(w *work, c *control, t target) {
	x := t.store.state.Explain(t.queue, c.seq)
	if x.Reason == queue.Unknown {
		sh.fail(w.s, c.id, wire.Errorf(wire.CodeNotFound, "queue %q has no message %d, or it was settled too long ago to be remembered", c.name, c.seq))
		return
	}
	if c.quiet {
		return
	}
	r := sh.reply(w.s)
	dst := appendText(wire.AppendOK(r.b, c.id), "state", x.State)
	why := because(t.queue, &x)
	if limit := int64(sh.b.limits.Load().MaxInFlight); x.State == "ready" && x.Reason >= queue.BehindPriority && sh.inFlight() >= limit {
		why = fmt.Sprintf("%d messages of all queues are leased; max_in_flight is %d", sh.inFlight(), limit)
	}
	dst = appendText(dst, "because", why)
	if x.Until != 0 {
		dst = wire.AppendTime(append(dst, `,"until":`...), x.Until)
	}
	if x.Consumer != nil {
		dst = append(dst, `,"lease":{"consumer":`...)
		dst = wire.AppendString(dst, holderName(x.Consumer))
		if x.Until != 0 {
			dst = wire.AppendTime(append(dst, `,"until":`...), x.Until)
		}
		dst = append(dst, '}')
	}
	dst = append(appendNumber(dst, "attempts", uint64(x.Attempts)), `,"history":[`...)
	for i, e := range x.History {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendTime(append(dst, `{"at":`...), e.At)
		dst = appendText(dst, "event", e.What)
		if e.Reason != "" {
			dst = appendText(dst, "reason", e.Reason)
		}
		dst = append(appendNumber(dst, "attempts", uint64(e.Attempts)), '}')
	}
	r.b = append(dst, "]}\n"...)
}

// holderName names the one who has a lease.
func holderName(c *queue.Consumer) string {
	t := c.Tag.(*tag)
	name := t.s.name()
	if t.sub == 0 {
		return name + ", by receive"
	}
	return fmt.Sprintf("%s, subscription %d", name, t.sub)
}

// because is the reason in a sentence.
func because(q *queue.Queue, x *queue.Explanation) string {
	when := time.Unix(0, x.Until).UTC().Format(time.RFC3339)
	switch x.Reason {
	case queue.Over:
		e := x.History[len(x.History)-1]
		s := fmt.Sprintf("it was %s at %s", e.What, time.Unix(0, e.At).UTC().Format(time.RFC3339))
		if e.Reason != "" {
			s += " (" + e.Reason + ")"
		}
		return s
	case queue.Delayed:
		return "it is delayed until " + when
	case queue.Retrying:
		return "its last delivery failed, and it is tried again at " + when
	case queue.Out:
		if x.Until == 0 {
			return "it has been delivered to " + holderName(x.Consumer) + ", and its settling is being recorded"
		}
		return "it is leased by " + holderName(x.Consumer) + " until " + when
	case queue.BehindKey:
		return fmt.Sprintf("it waits behind message %d, which has the same key", x.Ahead)
	case queue.Ended:
		return "its end, or another time for it, is being recorded"
	case queue.IsPaused:
		return fmt.Sprintf("queue %s is paused", q.Name)
	case queue.NoConsumer:
		return fmt.Sprintf("nobody consumes queue %s", q.Name)
	case queue.NoCredit:
		return fmt.Sprintf("none of the %d consumers of queue %s has credit left", q.Consumers, q.Name)
	case queue.NotRead:
		return fmt.Sprintf("the consumers of queue %s do not read what has been sent to them", q.Name)
	case queue.BehindPriority:
		return fmt.Sprintf("it waits behind message %d, whose priority is higher", x.Ahead)
	case queue.BehindOlder:
		return fmt.Sprintf("it waits behind older messages, the first of them %d", x.Ahead)
	}
	return "it is about to be delivered"
}
