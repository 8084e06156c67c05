package load

import (
	"bytes"
	"fmt"
	"net"
)

// A consumer takes messages and settles them as their fates say. What it has not seen settled
// when the server dies it either settles again in the next life, or leaves to be delivered again.
type consumer struct {
	l       *Ledger
	insists bool
	nc      net.Conn
	life    int
	w       bytes.Buffer
	held    []delivery // delivered, nothing sent
	sent    map[int]settlement
	ids     int
	last    uint64 // seq of the latest first delivery on this connection
}

// A settlement is one ack or nack that was sent.
type settlement struct {
	nack, dead bool
	ds         []delivery
}

// Consume is one consumer. It returns at the end of the lives.
func Consume(lv *Lives, l *Ledger, insists bool) {
	c := &consumer{l: l, insists: insists}
	for life, nc, ok := lv.dial(0); ok; life, nc, ok = lv.dial(life) {
		c.run(nc, life)
	}
}

func (c *consumer) run(nc net.Conn, life int) {
	defer nc.Close()
	unsure := c.sent
	c.nc, c.life, c.held, c.last, c.sent = nc, life, nil, 0, map[int]settlement{}
	if c.insists {
		for _, s := range unsure {
			if !s.nack {
				c.settle(s)
			}
		}
	}
	fmt.Fprintf(&c.w, `{"op":"subscribe","queue":"%s","credit":%d}`+"\n", c.l.Queue, credit)
	if !c.flush() {
		return
	}
	lines(nc, c.l, func(in *incoming, idle bool) bool {
		switch {
		case in.Op == "message":
			c.take(in)
		case in.ID != 0:
			c.settled(in)
		case in.Error != nil && in.Error.Code != shuttingDown:
			c.l.faultIn(life, "subscribe was refused: %+v", in.Error)
		}
		if idle || len(c.held) >= batch {
			return c.settleHeld()
		}
		return true
	})
}

// take holds what is delivered to settle it, unless the ledger does not want it.
func (c *consumer) take(in *incoming) {
	p, n, ok := c.l.identify(in.Body, in.Seq)
	if !ok {
		return
	}
	d := delivery{p: p, n: n, seq: in.Seq, attempt: in.Attempt, receipt: in.Receipt}
	if in.Attempt == 1 {
		if d.seq <= c.last {
			c.l.faultIn(c.life, "life %d: first delivery of seq %d after that of seq %d on the same connection", c.life, d.seq, c.last)
		}
		c.last = d.seq
	}
	if c.l.deliver(c.life, d, in.Redelivered) {
		c.held = append(c.held, d)
	}
}

func (c *consumer) settleHeld() bool {
	var ack, nack, dead settlement
	nack.nack, dead.nack, dead.dead = true, true, true
	for _, d := range c.held {
		switch f := c.l.fate(d.n); {
		case f == Accept, f == Retry && d.attempt > 1:
			ack.ds = append(ack.ds, d)
		case f == Bury:
			dead.ds = append(dead.ds, d)
		default:
			nack.ds = append(nack.ds, d)
		}
	}
	c.held = nil
	for _, s := range []settlement{ack, nack, dead} {
		c.settle(s)
	}
	return c.flush()
}

// settle writes an ack or nack of several messages with their receipts.
func (c *consumer) settle(s settlement) {
	if len(s.ds) == 0 {
		return
	}
	if !s.nack {
		c.l.ackSent(s.ds)
	}
	c.ids++
	c.sent[c.ids] = s
	op, more := "ack", ""
	if s.nack {
		op = "nack"
	}
	if s.dead {
		more = `,"dead":true,"reason":"as its fate is"`
	}
	fmt.Fprintf(&c.w, `{"op":"%s","id":%d,"queue":"%s"%s,"seq":[`, op, c.ids, c.l.Queue, more)
	for i, d := range s.ds {
		if i > 0 {
			c.w.WriteByte(',')
		}
		fmt.Fprintf(&c.w, "%d", d.seq)
	}
	c.w.WriteString(`],"receipt":[`)
	for i, d := range s.ds {
		if i > 0 {
			c.w.WriteByte(',')
		}
		fmt.Fprintf(&c.w, "%q", d.receipt)
	}
	c.w.WriteString("]}\n")
}

func (c *consumer) flush() bool {
	if c.w.Len() == 0 {
		return true
	}
	_, err := c.nc.Write(c.w.Bytes())
	c.w.Reset()
	return err == nil
}

// settled takes the reply to an ack or nack.
func (c *consumer) settled(in *incoming) {
	s, ok := c.sent[in.ID]
	if !ok {
		c.l.faultIn(c.life, "a reply to request %d, which was never sent or answered before", in.ID)
		return
	}
	if c.l.over(c.life) {
		return // still unsure
	}
	delete(c.sent, in.ID)
	var stale []uint64
	if in.Error != nil {
		stale = in.Error.Seqs
		// Only an ack of an earlier life can come too late: nobody else has what is leased here.
		if in.Error.Code != "lease_lost" || len(stale) == 0 || s.nack || !c.insists {
			c.l.faultIn(c.life, "life %d: settling %d messages failed: %+v", c.life, len(s.ds), *in.Error)
			return
		}
	}
	if s.nack {
		c.l.nackSeen(c.life, s.ds, s.dead)
	} else {
		c.l.ackSeen(c.life, s.ds, stale)
	}
}
