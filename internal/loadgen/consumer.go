package loadgen

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// ackMost is how many messages one ack settles at the most.
const ackMost = 1000

// A feed is one subscription of a consumer.
type feed struct {
	name     string   // of the queue, "" until the first delivery from a topic
	stream   int      // which copy of the messages comes here
	last     []uint64 // by publisher: 1 plus the latest message that came for the first time
	seqs     []byte   // what is to be acked, with commas
	receipts []byte   // the same
	unacked  int
}

// A consumer is one connection that takes messages and settles them. One goroutine reads, and acks what it has read.
type consumer struct {
	run   *run
	n     int
	nc    net.Conn
	tally *tally
	feeds []feed // by the number of the subscription, which the server counts from 1; 0 is not used

	touched []int // feeds with something to ack
	acks    []byte
	unacked atomic.Int64 // messages delivered, and not settled by what the server says
	dropped atomic.Int64 // messages that a subscription to a topic has missed, as the server says
}

// subscribe sends requests, each for one of feeds, and returns when the server has said yes to all. It must be called before read.
func (c *consumer) subscribe(requests [][]byte, feeds []feed, in *lines) error {
	failed := make(chan error, 1)
	go func() {
		for _, line := range requests {
			if _, err := c.nc.Write(line); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	c.feeds = make([]feed, len(feeds)+1)
	var f wire.Frame
	for got := 0; got < len(requests); {
		chunk, err := in.next()
		if err != nil {
			return fmt.Errorf("consumer %d: %w", c.n, err)
		}
		for len(chunk) > 0 {
			var line []byte
			line, chunk = cutLine(chunk)
			if err := wire.DecodeFrame(line, &f); err != nil {
				return err
			}
			id, _, _ := number(f.ID)
			switch {
			case f.IsReply && !f.OK:
				return fmt.Errorf("a subscribe was refused: %w", f.Err)
			case !f.IsReply || id >= uint64(len(feeds)) || f.Sub == 0 || f.Sub >= uint64(len(c.feeds)):
				return fmt.Errorf("consumer %d: this is no reply to a subscribe: %.200q", c.n, line)
			}
			c.feeds[f.Sub] = feeds[id]
			got++
		}
	}
	return <-failed
}

// subscribeLine asks for one feed, by its number among those of its consumer.
func (r *run) subscribeLine(n int, kind, name string) []byte {
	ack := ""
	if r.set.Ack == AckAuto {
		ack = `,"ack":"auto"`
	}
	return fmt.Appendf(nil, `{"op":"subscribe","id":%d,%q:%q,"create":false,"credit":%d%s}`+"\n", n, kind, name, r.set.Credit, ack)
}

// read takes and settles messages until the connection ends.
func (c *consumer) read(in *lines) error {
	var f wire.Frame
	for {
		chunk, err := in.next()
		if err != nil {
			return fmt.Errorf("consumer %d: %w", c.n, err)
		}
		now, span := c.run.now(), c.run.span()
		fresh := int64(0)
		c.tally.mu.Lock()
		for len(chunk) > 0 && err == nil {
			var line []byte
			line, chunk = c.cut(chunk)
			d, ok := quickDelivery(line)
			if !ok {
				if d, ok, err = c.other(line, &f); !ok {
					continue
				}
			}
			var l letter
			var first bool
			l, first, err = c.take(&d, line)
			if first {
				c.tally.count(span, l.at, now, 1)
				fresh++
			}
		}
		c.tally.mu.Unlock()
		c.run.delivered.Add(fresh)
		if err == nil {
			err = c.ack()
		}
		if err != nil {
			return err
		}
	}
}

// cut is cutLine. No line of a delivery ends before all of a body can have come: where bodies are large, there is no need to look for that.
func (c *consumer) cut(chunk []byte) (line, rest []byte) {
	least := c.run.set.Size
	if least >= len(chunk) || !bytes.HasPrefix(chunk, []byte(`{"op":"message"`)) {
		return cutLine(chunk)
	}
	end := least + bytes.IndexByte(chunk[least:], '\n')
	return chunk[:end], chunk[end+1:]
}

// A delivery is what a consumer wants to know of one. Its slices are views into the line.
type delivery struct {
	sub          uint64
	queue        []byte // only where it is not known from the subscription
	seq, receipt []byte
	repeated     bool // may have been in somebody's hands before
	dropped      uint64
	body         []byte
}

// quickDelivery reads what most lines are: a first delivery, without anything that the publishers do not send.
func quickDelivery(line []byte) (d delivery, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"op":"message","sub":`))
	if !ok {
		return d, false
	}
	if d.sub, rest, ok = number(rest); !ok {
		return d, false
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"queue":"`)); !ok {
		return d, false
	}
	if i := bytes.IndexByte(rest, '"'); i > 0 {
		d.queue, rest = rest[:i], rest[i:]
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`","seq":`)); !ok {
		return d, false
	}
	i := bytes.IndexByte(rest, ',')
	if i < 0 {
		return d, false
	}
	d.seq = rest[:i]
	if rest, ok = bytes.CutPrefix(rest[i:], []byte(`,"attempt":1,"receipt":"`)); !ok {
		return d, false
	}
	if i = bytes.IndexByte(rest, '"'); i < 0 {
		return d, false
	}
	d.receipt, rest = rest[:i], rest[i:]
	if rest, ok = bytes.CutPrefix(rest, []byte(`","published":"`)); !ok {
		return d, false
	}
	if i = bytes.IndexByte(rest, '"'); i < 0 {
		return d, false
	}
	rest = rest[i:]
	if topic, ok := bytes.CutPrefix(rest, []byte(`","topic":"`)); ok {
		if i = bytes.IndexByte(topic, '"'); i < 0 {
			return d, false
		}
		rest = topic[i:]
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`","body":"`)); !ok || len(rest) < 2 {
		return d, false
	}
	at := len(line) - len(rest) - 1
	d.body = line[at : len(line)-1]
	return d, true
}

// other reads a line that is no plain delivery; ok is true where it is a delivery all the same.
func (c *consumer) other(line []byte, f *wire.Frame) (d delivery, ok bool, err error) {
	if err := wire.DecodeFrame(line, f); err != nil {
		return d, false, err
	}
	switch {
	case f.IsReply && !f.OK:
		return d, false, c.refused(f)
	case f.IsReply:
		c.unacked.Add(-int64(f.Settled))
		return d, false, nil
	case f.Op == "message":
		m := &f.Message
		return delivery{
			sub: m.Sub, queue: m.Queue, seq: appendNumber(nil, m.Seq), receipt: m.Receipt,
			repeated: m.Redelivered || m.Attempt > 1, dropped: m.Dropped, body: m.Body,
		}, true, nil
	case f.Op == "unsubscribed":
		return d, false, fmt.Errorf("consumer %d: the subscription is over: %s", c.n, f.Reason)
	}
	return d, false, nil // closing: what follows tells more
}

// refused takes the refusal of acks. Where another consumer has had the messages since, as the lead of a queue has moved, or where nobody leads it at the moment,
// the run goes on: they come, or have come, again.
func (c *consumer) refused(f *wire.Frame) error {
	acked, _, ok := number(f.ID)
	if !ok || f.Err.Code != wire.CodeLeaseLost && !f.Retryable {
		return fmt.Errorf("an ack was refused: %w", f.Err)
	}
	n := int64(acked)
	c.unacked.Add(-n)
	if seqs := len(f.Err.Seqs); seqs > 0 {
		n = int64(seqs)
	}
	c.run.refused(f.Err.Code, n)
	return nil
}

// take accounts for a delivery and notes that it is to be acked. first is true where the message had not come before.
func (c *consumer) take(d *delivery, line []byte) (l letter, first bool, err error) {
	l, ok := readBody(d.body, c.run.id)
	if !ok || d.sub == 0 || d.sub >= uint64(len(c.feeds)) || l.publisher >= len(c.run.ledgers) {
		return l, false, fmt.Errorf("consumer %d got a message that this run has not published; load is for queues and topics of its own: %.200q", c.n, line)
	}
	f, faults := &c.feeds[d.sub], &c.run.faults
	if d.dropped > 0 {
		c.dropped.Add(int64(d.dropped))
		c.run.dropped.Add(int64(d.dropped))
	}
	c.settle(f, d)
	again, known := c.run.ledgers[l.publisher].deliver(f.stream, l.n)
	switch {
	case !known:
		faults.add(&faults.unknown, "publisher %d never sent message %d, which was delivered: %.200s", l.publisher, l.n, line)
	case again && d.repeated:
		c.run.redelivered.Add(1)
	case again:
		faults.add(&faults.twice, "message %d of publisher %d was delivered twice, the second time as: %.200s", l.n, l.publisher, line)
	}
	if d.repeated || again || !known {
		return l, known && !again, nil
	}
	if f.last == nil {
		f.last = make([]uint64, len(c.run.ledgers))
	}
	if last := &f.last[l.publisher]; l.n < *last {
		faults.add(&faults.outOfOrder, "message %d of publisher %d was delivered after message %d by the same subscription: %.200s", l.n, l.publisher, *last-1, line)
	} else {
		*last = l.n + 1
	}
	return l, true, nil
}

// settle notes that a delivery is to be acked.
func (c *consumer) settle(f *feed, d *delivery) {
	if c.run.set.Ack == AckAuto {
		return
	}
	if f.unacked == 0 {
		c.touched = append(c.touched, int(d.sub))
	} else {
		f.seqs = append(f.seqs, ',')
	}
	f.seqs = append(f.seqs, d.seq...)
	if c.run.set.Ack == AckReceipt {
		if f.unacked > 0 {
			f.receipts = append(f.receipts, ',')
		}
		f.receipts = append(append(append(f.receipts, '"'), d.receipt...), '"')
	}
	if f.name == "" {
		f.name = string(d.queue)
	}
	if f.unacked++; f.unacked == ackMost {
		c.ackFeed(f)
	}
	c.unacked.Add(1)
}

// ackFeed appends the ack of what has come by one subscription.
func (c *consumer) ackFeed(f *feed) {
	if f.unacked == 0 {
		return
	}
	c.acks = strconv.AppendInt(append(c.acks, `{"op":"ack","id":`...), int64(f.unacked), 10) // the id says how many they are
	c.acks = append(append(append(c.acks, `,"queue":"`...), f.name...), `","seq":[`...)
	c.acks = append(append(c.acks, f.seqs...), ']')
	if len(f.receipts) > 0 {
		c.acks = append(append(append(c.acks, `,"receipt":[`...), f.receipts...), ']')
	}
	c.acks = append(c.acks, "}\n"...)
	f.seqs, f.receipts, f.unacked = f.seqs[:0], f.receipts[:0], 0
}

// ack sends the acks of everything that has come.
func (c *consumer) ack() error {
	for _, i := range c.touched {
		c.ackFeed(&c.feeds[i])
	}
	c.touched = c.touched[:0]
	if len(c.acks) == 0 {
		return nil
	}
	// The server stops reading where its own output is not taken, and what it would write waits for us. A deadline keeps
	// both from waiting for ever.
	c.nc.SetWriteDeadline(time.Now().Add(c.run.patience))
	_, err := c.nc.Write(c.acks)
	c.acks = c.acks[:0]
	if err != nil {
		return fmt.Errorf("consumer %d: %w", c.n, err)
	}
	return nil
}
