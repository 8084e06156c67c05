package gmq

import "time"

// A PublishOption changes one publish.
type PublishOption interface{ applyPublish(*publishOptions) }

// A NackOption changes one nack.
type NackOption interface{ applyNack(*nackOptions) }

// A ConsumeOption changes how messages are taken.
type ConsumeOption interface{ applyConsume(*consumeConfig) }

type publishOption func(*publishOptions)

func (f publishOption) applyPublish(o *publishOptions) { f(o) }

// Headers go with the message.
func Headers(h map[string]string) PublishOption {
	return publishOption(func(o *publishOptions) { o.headers = h })
}

// A DueOption says when a message becomes ready: it is [Delay] or [At].
type DueOption interface{ appendDue(b []byte) []byte }

// An AtOption is for publishing and for rescheduling.
type AtOption time.Time

// At is when the message becomes ready.
func At(t time.Time) AtOption { return AtOption(t) }

func (a AtOption) applyPublish(o *publishOptions) { o.at = time.Time(a) }

func (a AtOption) appendDue(b []byte) []byte {
	return appendText(b, "at", time.Time(a).UTC().Format(time.RFC3339Nano))
}

// TTL is how long the message may wait before it expires.
func TTL(d time.Duration) PublishOption {
	return publishOption(func(o *publishOptions) { o.ttl = d })
}

// Priority is 0 to 9, the highest first; 4 where nothing is said.
func Priority(p int) PublishOption {
	return publishOption(func(o *publishOptions) { o.priority = p + 1 })
}

// Key makes messages of the same key be delivered one at a time and in order.
func Key(k string) PublishOption { return publishOption(func(o *publishOptions) { o.key = k }) }

// DedupID names the message: within the queue's window the same name again is
// not stored again. It makes [Retry] safe, and implies it.
func DedupID(id string) PublishOption {
	return publishOption(func(o *publishOptions) { o.dedupID, o.retry = id, o.retry || id != "" })
}

// RequireStored is the least durability that will do, such as "disk"; a queue
// that gives less refuses the message with [ErrNotStored].
func RequireStored(least string) PublishOption {
	return publishOption(func(o *publishOptions) { o.stored = least })
}

// Retry lets the client publish again where the connection was lost before the
// confirm came. The message may then be there twice, unless it has a [DedupID].
func Retry() PublishOption { return publishOption(func(o *publishOptions) { o.retry = true }) }

// A DelayOption is for publishing, for giving back and for rescheduling.
type DelayOption time.Duration

// Delay is how long the message waits: after [Queue.Send] before its first
// delivery, after [Message.Nack] before its next.
func Delay(d time.Duration) DelayOption { return DelayOption(d) }

func (d DelayOption) applyPublish(o *publishOptions) { o.delay = time.Duration(d) }

func (d DelayOption) appendDue(b []byte) []byte {
	return appendDuration(b, "delay", max(time.Duration(d), 0))
}

func (d DelayOption) applyNack(o *nackOptions) { o.delay, o.hasDelay = time.Duration(d), true }

type nackOptions struct {
	delay    time.Duration
	hasDelay bool
	reason   string
	dead     bool
	noCount  bool
}

type nackOption func(*nackOptions)

func (f nackOption) applyNack(o *nackOptions) { f(o) }

// Reason says why a message is given back.
func Reason(why string) NackOption { return nackOption(func(o *nackOptions) { o.reason = why }) }

// Dead sends a message straight to the dead-letter queue.
func Dead() NackOption { return nackOption(func(o *nackOptions) { o.dead = true }) }

// Uncounted gives a message back as if it had not been delivered.
func Uncounted() NackOption { return nackOption(func(o *nackOptions) { o.noCount = true }) }

type consumeConfig struct {
	credit   int
	lease    time.Duration
	autoAck  bool          // settled by the server on delivery
	noCreate bool          // a queue that is not there is an error
	ackTaken bool          // settled by the client on being taken
	grace    time.Duration // of Work; negative is without end
}

type consumeOption func(*consumeConfig)

func (f consumeOption) applyConsume(o *consumeConfig) { f(o) }

func newConsumeConfig(base consumeConfig, opts []ConsumeOption) consumeConfig {
	for _, o := range opts {
		o.applyConsume(&base)
	}
	return base
}

// Credit is how many messages may be delivered and not yet settled at a time.
// [Queue.Messages] has 1 where nothing is said, [Queue.Work] one for each
// handler, and never fewer. Subscriptions to a [Topic] have 64.
func Credit(n int) ConsumeOption {
	return consumeOption(func(o *consumeConfig) { o.credit = max(n, 1) })
}

// Lease is how long a message is promised to the one who took it. Where
// nothing is said the queue's setting counts; [Queue.Work] has 30 s, and a
// subscription to a [Topic], whose messages are for nobody else, a day.
func Lease(d time.Duration) ConsumeOption {
	return consumeOption(func(o *consumeConfig) { o.lease = d })
}

// AutoAck settles messages on delivery: at most once. Those of a [Topic] are
// settled when they are taken, so that a slow reader is not flooded.
func AutoAck() ConsumeOption { return consumeOption(func(o *consumeConfig) { o.autoAck = true }) }

// NoCreate refuses to take messages from a queue that is not there, with [ErrNotFound], also when the
// client subscribes again after a lost connection. Without it the server makes the queue, if it is
// configured so; such a queue is bound to no topic. Of a [Topic] it means nothing.
func NoCreate() ConsumeOption { return consumeOption(func(o *consumeConfig) { o.noCreate = true }) }

// Grace bounds how long handlers of [Queue.Work] may go on when it is told to
// stop; then their contexts end. Without it they may finish at their leisure.
func Grace(d time.Duration) ConsumeOption {
	return consumeOption(func(o *consumeConfig) { o.grace = max(d, 0) })
}
