package loadgen

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// burstBytes is how much a publisher collects before it writes.
const burstBytes = 64 << 10

// A request is a publish on its way. Its publisher fills it in before it sends it; from then on, until id is 0 again, it
// belongs to whoever reads the reply.
type request struct {
	id    atomic.Uint64 // 0: none
	first uint64        // of its messages
	count uint64
	at    time.Duration // when it was to be sent
}

// A publisher is one connection that publishes. One goroutine writes, another reads the confirms.
type publisher struct {
	run    *run
	n      int
	nc     net.Conn
	ledger *ledger
	tally  *tally

	requests []request // the request of an id is at id modulo their number, which is a power of two
	onTheWay atomic.Int64
	replied  chan struct{} // holds one token where a reply has come since it was taken

	// The writer's.
	body     []byte
	ids      uint64 // of the last request
	sent     uint64 // messages
	measured int64  // of them
	share    int64  // of Settings.Messages
	buf      []byte
	tail     []byte // what goes behind buf: the end of the last line, where its body is so large that it is better not copied
	late     lateness
}

// lateness is how far an open loop was from its schedule.
type lateness struct {
	messages int64         // that left late
	held     int64         // of them, after the window was full
	most     time.Duration // that one was late
}

func newPublisher(r *run, n int, nc net.Conn) *publisher {
	size := 1
	for size < max(1, r.set.Window/r.set.Batch) {
		size *= 2
	}
	p := &publisher{
		run: r, n: n, nc: nc, ledger: r.ledgers[n], tally: r.confirms.of(n),
		requests: make([]request, size), replied: make(chan struct{}, 1),
		body: newBody(r.set.Size, r.id, n),
	}
	all, n64, of := r.set.Messages, int64(n), int64(r.set.Publishers)
	p.share = all*(n64+1)/of - all*n64/of
	return p
}

// publish sends until the run is over or ctx has ended, and then waits until all is answered.
func (p *publisher) publish(ctx context.Context) error {
	send := p.closedLoop
	if p.run.set.Rate > 0 {
		send = p.openLoop
	}
	if err := send(ctx); err != nil {
		return err
	}
	patience := time.NewTimer(p.run.patience)
	defer patience.Stop()
	for p.onTheWay.Load() > 0 {
		select {
		case <-p.replied:
			patience.Reset(p.run.patience)
		case <-patience.C:
			return fmt.Errorf("publisher %d: %d requests were not answered within %v", p.n, p.onTheWay.Load(), p.run.patience)
		case <-p.run.failed:
			return nil
		}
	}
	return nil
}

// over reports whether a message that is to be sent at that time is behind the end.
func (p *publisher) over(at time.Duration) bool {
	if p.run.set.Messages > 0 {
		return p.measured >= p.share
	}
	return at >= p.run.span().until
}

// room reports whether the next request may be on its way beside the others.
func (p *publisher) room() bool {
	return int(p.onTheWay.Load()) < max(1, p.run.set.Window/p.run.set.Batch) &&
		p.requests[(p.ids+1)&uint64(len(p.requests)-1)].id.Load() == 0
}

// closedLoop keeps the window full.
func (p *publisher) closedLoop(ctx context.Context) error {
	for ctx.Err() == nil {
		now := p.run.now()
		if p.over(now) {
			return nil
		}
		if p.run.behind() {
			p.run.pause(ctx)
			continue
		}
		for p.room() && len(p.buf)+len(p.tail) < burstBytes && !p.over(now) {
			p.add(now)
		}
		if len(p.buf) == 0 {
			p.await(ctx)
			continue
		}
		if err := p.flush(); err != nil {
			return err
		}
	}
	return nil
}

// openLoop sends each request when it is due, or as soon after that as it can.
func (p *publisher) openLoop(ctx context.Context) error {
	set := &p.run.set
	pace := newPace(set.Rate, set.Batch, set.Publishers, p.n, p.run.span().from-set.Warmup)
	alarm := p.run.newAlarm()
	defer alarm.close()
	held := false // the window was full when the next one was due
	for k := uint64(0); ctx.Err() == nil; {
		due, now := pace.due(k), p.run.now()
		switch {
		case p.over(due):
			return p.flush()
		case due > now || len(p.buf)+len(p.tail) >= burstBytes:
			if len(p.buf) > 0 {
				if err := p.flush(); err != nil {
					return err
				}
				continue
			}
			alarm.wait(ctx, due-now)
		case !p.room():
			held = true
			if err := p.flush(); err != nil {
				return err
			}
			p.await(ctx)
		default:
			n := p.add(due)
			if p.run.span().holds(due) {
				p.late.note(now-due, n, held)
			}
			held = false
			k++
		}
	}
	return nil
}

func (l *lateness) note(by time.Duration, n int64, held bool) {
	if by <= lateAfter {
		return
	}
	l.messages += n
	l.most = max(l.most, by)
	if held {
		l.held += n
	}
}

// await waits for a reply.
func (p *publisher) await(ctx context.Context) {
	select {
	case <-p.replied:
	case <-p.run.failed:
	case <-ctx.Done():
	}
}

// add appends a request that is to be sent at that time and gives how many messages it has.
func (p *publisher) add(at time.Duration) int64 {
	set := &p.run.set
	count := uint64(set.Batch)
	if p.run.span().holds(at) {
		if set.Messages > 0 {
			count = min(count, uint64(p.share-p.measured))
		}
		p.measured += int64(count)
	}
	p.ids++
	p.ledger.reach(p.sent + count)
	b := append(p.buf, p.run.heads[(uint64(p.n)+p.ids)%uint64(len(p.run.heads))]...)
	b = appendNumber(b, p.ids)
	if set.Batch == 1 {
		b = append(b, `,"body":`...)
		stamp(p.body, p.sent, at)
		if len(p.body) >= burstBytes {
			b, p.tail = append(b, p.body[:fillAt]...), append(p.body, "}\n"...)[fillAt:]
		} else {
			b = append(append(b, p.body...), "}\n"...)
		}
	} else {
		b = append(b, `,"messages":[`...)
		for i := range count {
			if i > 0 {
				b = append(b, ',')
			}
			stamp(p.body, p.sent+i, at)
			b = append(append(append(b, `{"body":`...), p.body...), '}')
		}
		b = append(b, "]}\n"...)
	}
	p.buf = b
	r := &p.requests[p.ids&uint64(len(p.requests)-1)]
	r.first, r.count, r.at = p.sent, count, at
	r.id.Store(p.ids)
	p.onTheWay.Add(1)
	p.sent += count
	return int64(count)
}

func (p *publisher) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	var err error
	if len(p.tail) > 0 {
		_, err = (&net.Buffers{p.buf, p.tail}).WriteTo(p.nc)
	} else {
		_, err = p.nc.Write(p.buf)
	}
	p.buf, p.tail = p.buf[:0], nil
	if err != nil {
		return fmt.Errorf("publisher %d: %w", p.n, err)
	}
	return nil
}

// read takes the confirms until the connection ends.
func (p *publisher) read() error {
	in := lines{r: p.nc}
	var f wire.Frame
	for {
		chunk, err := in.next()
		if err != nil {
			return fmt.Errorf("publisher %d: %w", p.n, err)
		}
		now, span := p.run.now(), p.run.span()
		requests, messages := int64(0), int64(0)
		p.tally.mu.Lock()
		for len(chunk) > 0 && err == nil {
			var line []byte
			line, chunk = cutLine(chunk)
			var r *request
			if id, ok := confirmed(line); ok {
				r, err = p.request(id, line)
			} else if r, err = p.other(line, &f); r != nil && !f.OK {
				p.ledger.refuse(r.first, r.count)
				r.id.Store(0)
				requests++
				continue
			}
			if r == nil {
				continue
			}
			p.ledger.confirm(r.first, r.count)
			p.tally.count(span, r.at, now, int64(r.count))
			messages += int64(r.count)
			r.id.Store(0)
			requests++
		}
		p.tally.mu.Unlock()
		p.run.confirmed.Add(messages)
		p.onTheWay.Add(-requests)
		select {
		case p.replied <- struct{}{}:
		default:
		}
		if err != nil {
			return err
		}
	}
}

// confirmed reads what most lines are: the reply to a publish that went well.
func confirmed(line []byte) (id uint64, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":`))
	if !ok {
		return 0, false
	}
	id, rest, ok = number(rest)
	return id, ok && bytes.HasPrefix(rest, []byte(`,"ok":true,`))
}

// request is the one that an id names.
func (p *publisher) request(id uint64, line []byte) (*request, error) {
	r := &p.requests[id&uint64(len(p.requests)-1)]
	if id == 0 || r.id.Load() != id {
		return nil, fmt.Errorf("publisher %d: the server answered what is not on its way: %.200q", p.n, line)
	}
	return r, nil
}

// other reads a line that is no plain confirm. Where it answers a request it gives that. A refusal that the next
// message would meet too is an error.
func (p *publisher) other(line []byte, f *wire.Frame) (*request, error) {
	if err := wire.DecodeFrame(line, f); err != nil {
		return nil, err
	}
	if !f.IsReply {
		return nil, nil // closing: what follows tells more
	}
	id, _, _ := number(f.ID)
	r, err := p.request(id, line)
	if err == nil && !f.OK {
		p.run.refused(f.Err.Code, int64(r.count))
		if !f.Retryable {
			err = fmt.Errorf("a publish was refused: %w", f.Err)
		}
	}
	return r, err
}
