package kill_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	window = 256 // publishes on their way at a time
	credit = 100
	batch  = 50 // settled at a time at the most

	shuttingDown = "shutting_down" // the code of the only refusal there may be
)

// lives tells clients where the server is: every start is a life, counted from 1.
type lives struct {
	ctx     context.Context // ends with the test
	mu      sync.Mutex      // guards the following
	changed *sync.Cond
	n       int
	addr    string
}

func newLives(ctx context.Context) *lives {
	l := &lives{ctx: ctx}
	l.changed = sync.NewCond(&l.mu)
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})
	return l
}

func (l *lives) begin(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	l.addr = addr
	l.changed.Broadcast()
}

// dial connects in a life after the given one, as soon as there is one. It is false at the end.
func (l *lives) dial(after int) (life int, nc net.Conn, ok bool) {
	for l.ctx.Err() == nil {
		l.mu.Lock()
		for l.n <= after && l.ctx.Err() == nil {
			l.changed.Wait()
		}
		life, addr := l.n, l.addr
		l.mu.Unlock()
		if l.ctx.Err() != nil {
			break
		}
		if nc, err := net.DialTimeout("tcp", addr, 5*time.Second); err == nil {
			context.AfterFunc(l.ctx, func() { nc.Close() })
			return life, nc, true
		}
		after = life // killed in between
	}
	return 0, nil, false
}

// incoming is any line of the server.
type incoming struct {
	Op          string
	ID          int
	OK          bool
	Seq         uint64
	Attempt     int
	Receipt     string
	Redelivered bool
	Body        struct{ P, N int }
	Error       *struct {
		Code, Message string
		Seqs          []uint64
	}
}

// lines calls f for every line until the connection ends or f has had enough. What it read may be half a line at
// a kill, which is none; idle is true where no more has arrived yet.
func lines(nc net.Conn, l *ledger, f func(in *incoming, idle bool) bool) {
	r := bufio.NewReaderSize(nc, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		var in incoming
		if err := json.Unmarshal(line, &in); err != nil {
			l.Fault("the server sent %q: %v", line, err)
			return
		}
		if !f(&in, r.Buffered() == 0) {
			return
		}
	}
}

var padding = strings.Repeat("x", 300)

// publish is one publisher: it publishes each message once, and goes on with the next after a kill.
func publish(lv *lives, l *ledger, p int) {
	for life, nc, ok := lv.dial(0); ok; life, nc, ok = lv.dial(life) {
		if !publishOn(nc, life, l, p) {
			return
		}
	}
}

// publishOn is false when there is nothing more to publish and all of it was answered.
func publishOn(nc net.Conn, life int, l *ledger, p int) (more bool) {
	dead, tokens := make(chan struct{}), make(chan struct{}, window)
	go func() {
		defer close(dead)
		defer nc.Close()
		lines(nc, l, func(in *incoming, _ bool) bool {
			switch {
			case in.OK:
				l.confirm(life, p, in.ID, in.Seq)
			case in.Op == "closing":
				return true
			case in.Error != nil && in.Error.Code == shuttingDown:
				l.refuse(p, in.ID)
			default:
				l.Fault("publish %d/%d was refused: %+v", p, in.ID, in.Error)
			}
			<-tokens
			return true
		})
	}()
	defer func() { nc.Close(); <-dead }()
	w := bufio.NewWriterSize(nc, 8<<10)
	room := func() bool {
		select {
		case tokens <- struct{}{}:
			return true
		default:
		}
		if w.Flush() != nil {
			return false
		}
		select {
		case tokens <- struct{}{}:
			return true
		case <-dead:
			return false
		}
	}
	for {
		if !room() {
			return true
		}
		n, ok := l.next(p)
		if !ok {
			<-tokens
			break
		}
		fmt.Fprintf(w, `{"op":"publish","id":%d,"queue":"%s","body":{"p":%d,"n":%d,"pad":"%s"}}`+"\n", n, l.queue, p, n, padding[:n*7%300])
	}
	for range window { // all of it answered
		if !room() {
			return false
		}
	}
	return false
}

// A consumer takes messages and settles them as their fates say. What it has not seen settled
// when the server dies it either settles again in the next life, or leaves to be delivered again.
type consumer struct {
	l       *ledger
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

func consume(lv *lives, l *ledger, insists bool) {
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
	fmt.Fprintf(&c.w, `{"op":"subscribe","queue":"%s","credit":%d}`+"\n", c.l.queue, credit)
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
			c.l.Fault("subscribe was refused: %+v", in.Error)
		}
		if idle || len(c.held) >= batch {
			return c.settleHeld()
		}
		return true
	})
}

func (c *consumer) take(in *incoming) {
	d := delivery{p: in.Body.P, n: in.Body.N, seq: in.Seq, attempt: in.Attempt, receipt: in.Receipt}
	if in.Attempt == 1 {
		if d.seq <= c.last {
			c.l.Fault("life %d: first delivery of seq %d after that of seq %d on the same connection", c.life, d.seq, c.last)
		}
		c.last = d.seq
	}
	c.l.deliver(c.life, d, in.Redelivered)
	c.held = append(c.held, d)
}

func (c *consumer) settleHeld() bool {
	var ack, nack, dead settlement
	nack.nack, dead.nack, dead.dead = true, true, true
	for _, d := range c.held {
		switch f := c.l.fate(d.n); {
		case f == accept, f == retry && d.attempt > 1:
			ack.ds = append(ack.ds, d)
		case f == bury:
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
	fmt.Fprintf(&c.w, `{"op":"%s","id":%d,"queue":"%s"%s,"seq":[`, op, c.ids, c.l.queue, more)
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
		c.l.Fault("a reply to request %d, which was never sent or answered before", in.ID)
		return
	}
	delete(c.sent, in.ID)
	var stale []uint64
	if in.Error != nil {
		stale = in.Error.Seqs
		// Only an ack of an earlier life can come too late: nobody else has what is leased here.
		if in.Error.Code != "lease_lost" || len(stale) == 0 || s.nack || !c.insists {
			c.l.Fault("life %d: settling %d messages failed: %+v", c.life, len(s.ds), *in.Error)
			return
		}
	}
	if s.nack {
		c.l.nackSeen(c.life, s.ds, s.dead)
	} else {
		c.l.ackSeen(c.life, s.ds, stale)
	}
}
