package broker

import (
	"bytes"
	"sync"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/wire"
)

var (
	errNoQuorum       = wire.Errorf(wire.CodeNoQuorum, "nobody leads the queue at the moment; nothing was done")
	errUnknownOutcome = wire.Errorf(wire.CodeUnknownOutcome, "the node that led the queue was lost with the request: it may or may not have been carried out")
)

// answers are what a route has for its client, and the works that have ended, collected while its lock is held.
type answers struct {
	c     *chunk
	ended []*work
}

var answersPool = sync.Pool{New: func() any { return &answers{} }}

func newAnswers() *answers { return answersPool.Get().(*answers) }

// out is where lines are appended.
func (a *answers) out() *chunk {
	if a.c == nil {
		a.c = chunkPool.Get().(*chunk)
	}
	return a.c
}

func (a *answers) fail(s *Session, id []byte, err *wire.Error) {
	s.b.countError(err.Code)
	c := a.out()
	c.b = wire.AppendError(c.b, id, err)
}

// end notes that everything a work asks for has been answered.
func (a *answers) end(w *work) { a.ended = append(a.ended, w) }

// to hands over what has been collected, which is no longer the caller's.
func (a *answers) to(s *Session) {
	if a.c != nil {
		if len(a.c.b) > 0 {
			s.send(a.c)
		} else {
			a.c.free()
		}
		a.c = nil
	}
	for i, w := range a.ended {
		a.ended[i] = nil
		if w.binding && s.binding.Add(-1) == 0 {
			signal(s.writable)
		}
		s.b.working.Add(-int64(w.requests))
		cost := w.cost
		s.b.shards[0].reuse(w)
		s.finished(cost)
	}
	a.ended = a.ended[:0]
	answersPool.Put(a)
}

// output takes what a proxy session says: replies, with tags for ids, and deliveries.
func (rt *route) output(lk *link, lines []byte) {
	say := newAnswers()
	again, n := uint32(0), len(lines)
	rt.mu.Lock()
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n') + 1
		if end == 0 {
			break // no proxy says half a line
		}
		if line := lines[:end]; bytes.HasPrefix(line, replyHead) {
			if shard := rt.reply(lk, line, say); shard >= 0 {
				again |= 1 << shard
			}
		} else {
			rt.push(lk, line, say)
		}
		lines = lines[end:]
	}
	now := rt.f.b.opt.Now()
	for i, ln := range rt.lanes {
		if again&(1<<i) != 0 && !rt.advance(ln, now, say) {
			again &^= 1 << i
		}
	}
	lk.owed += n
	rt.mu.Unlock()
	say.to(rt.s)
	rt.thank()
	if again != 0 {
		rt.f.poke(rt, again)
	}
}

// owes is how many bytes of output may have been taken by the client before their node is told so.
const owes = proxyLimit / 4

// thank tells nodes that what they have sent has been taken by the client, where it has.
func (rt *route) thank() {
	if rt.s.pending.Load() > OutLimit/2 {
		rt.owing.Store(true)
		return
	}
	rt.owing.Store(false)
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, lk := range rt.links {
		if lk.owed >= owes {
			rt.scratch = appendUvarint(appendUvarint(append(rt.scratch[:0], sayTaken), lk.number), uint64(lk.owed))
			lk.caller.line.Send(nil, rt.scratch)
			lk.owed = 0
		}
	}
}

var (
	replyHead   = []byte(`{"id":`)
	succeeded   = []byte(`,"ok":true`)
	failed      = []byte(`,"ok":false,"error":{"code":"`)
	messageHead = []byte(`{"op":"message","sub":`)
	endedHead   = []byte(`{"op":"unsubscribed","sub":`)
)

// number reads the number at the beginning of b.
func number(b []byte) (n uint64, rest []byte) {
	for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
		n = n*10 + uint64(b[0]-'0')
		b = b[1:]
	}
	return n, b
}

// reply passes on a reply to the request that its tag names. It returns the shard whose lane can go on; -1 where none can.
func (rt *route) reply(lk *link, line []byte, say *answers) int {
	tag, rest := number(line[len(replyHead):])
	w := rt.last
	if w == nil || w.number != tag>>tagBits {
		if w = rt.flying[tag>>tagBits]; w == nil {
			return -1
		}
		rt.last = w
	}
	id, done, quiet, ok := w.request(tag)
	if w.lk != lk || !ok || *done {
		return -1
	}
	success := bytes.HasPrefix(rest, succeeded)
	if !success && w.mayGoBack(tag, code(rest), rt.f.b.draining.Load()) {
		w.back = true // of those that are left when all have been answered
		w.doubt = w.doubt || string(code(rest)) == string(wire.CodeUnknownOutcome)
	} else {
		*done = true
		w.answered++
		rt.tell(w, id, quiet && success, success, rest, say)
	}
	if w.left--; w.left > 0 {
		return -1
	}
	return rt.landed(w, say)
}

// landed is told that all requests of a work have been answered, or refused.
func (rt *route) landed(w *work, say *answers) int {
	delete(rt.flying, w.number)
	rt.last = nil
	for i, ln := range rt.lanes {
		if ln == nil {
			continue
		}
		for k, other := range ln.out {
			if other != w {
				continue
			}
			ln.out = append(ln.out[:k], ln.out[k+1:]...)
			if w.back && w.silent() {
				rt.unlive(w)
				say.end(w)
			} else if w.back {
				w.left = w.undone()
				ln.pause = rt.f.b.opt.Now() + int64(restless)
				ln.back = append(ln.back, w)
			} else {
				say.end(w)
			}
			if len(ln.out) == 0 {
				sortWorks(ln.back)
			}
			rt.settle(ln)
			if len(ln.back)+len(ln.wait) == 0 {
				return -1
			}
			return i
		}
	}
	return -1
}

// code is that of the error in a reply, behind its id.
func code(rest []byte) []byte {
	if !bytes.HasPrefix(rest, failed) {
		return nil
	}
	rest = rest[len(failed):]
	return rest[:max(bytes.IndexByte(rest, '"'), 0)]
}

// mayGoBack reports whether a request that was refused like that may be asked again without harm.
func (w *work) mayGoBack(tag uint64, code []byte, draining bool) bool {
	switch string(code) {
	case string(wire.CodeNoQuorum):
		return true
	case string(wire.CodeShuttingDown): // the node there is
		return !draining
	case string(wire.CodeUnknownOutcome):
		return w.repeatable(tag)
	}
	return false
}

// repeatable reports whether a request may be carried out twice without anybody noticing.
func (w *work) repeatable(tag uint64) bool {
	if c := w.control; c != nil {
		switch c.op {
		case wire.OpReceive:
			return !c.auto
		case wire.OpSubscribe, wire.OpUnsubscribe, wire.OpQueueInfo, wire.OpQueuePeek, wire.OpQueueExplain:
			return true
		}
		return false
	}
	if tag&tagAck == 0 {
		return false
	}
	a := &w.acks[tag&tagIndex]
	return a.op != wire.OpNack || a.receipts
}

// tell passes a reply on, with the client's own id.
func (rt *route) tell(w *work, id []byte, leaveOut, success bool, rest []byte, say *answers) {
	if c := w.control; c != nil {
		switch sub := rt.subs[c.sub]; c.op {
		case wire.OpSubscribe:
			rt.answered(c, sub, w, success, rest, say)
		case wire.OpUnsubscribe:
			if !success && c.living && string(code(rest)) == string(wire.CodeNotFound) { // it has ended with its leader
				success, leaveOut, rest = true, c.quiet, []byte(",\"ok\":true}\n")
			}
			if c.drain && success { // until here its deliveries have been passed on
				delete(rt.subs, c.sub)
			}
		case wire.OpReceive:
			leaveOut = false
		}
		if c.silent {
			return
		}
	}
	if leaveOut {
		return
	}
	if !success {
		rt.s.b.countError(wire.Code(code(rest)))
	}
	out := say.out()
	if len(id) == 0 {
		out.b = append(append(out.b, '{'), rest[1:]...)
		return
	}
	out.b = append(append(append(out.b, replyHead...), id...), rest...)
}

// answered notes what has become of a subscription.
func (rt *route) answered(c *control, sub *subscribed, w *work, success bool, rest []byte, say *answers) {
	switch {
	case sub == nil:
	case success:
		sub.live = true
		if !c.silent {
			sub.node, sub.term = w.lk.caller.node, rt.lanes[sub.shard].term
		}
		sub.ready = sub.node == w.lk.caller.node
	default:
		delete(rt.subs, c.sub)
		if c.silent { // it was there, and cannot be made again
			out := say.out()
			out.b = appendUint(append(out.b, endedHead...), c.sub)
			why := "the queue is not there any more, or may not be consumed"
			if string(code(rest)) == string(wire.CodeOverloaded) {
				why = "its storage cannot be reached, so that it is not known whether the queue is there"
			}
			out.b = append(append(append(out.b, ",\"reason\":\""...), why...), "\"}\n"...)
		}
	}
}

// push passes on what a proxy says unasked, where it is about a subscription that the client has there.
func (rt *route) push(lk *link, line []byte, say *answers) {
	isMessage := bytes.HasPrefix(line, messageHead)
	head := messageHead
	if !isMessage {
		if head = endedHead; !bytes.HasPrefix(line, head) {
			return // closing: that node is, and not this one
		}
	}
	n, _ := number(line[len(head):])
	sub := rt.subs[n]
	if sub == nil || sub.node != lk.caller.node || !sub.ready {
		return // it is of an earlier leadership, and has lain in a cable that was out; who leads now has it given to somebody else, maybe
	}
	if !isMessage {
		delete(rt.subs, n)
	}
	out := say.out()
	out.b = append(out.b, line...)
}

// lostAt is told by a shard of another node, which leads no more, or not all, which subscriptions it has ended.
func (rt *route) lostAt(lk *link, shard int, subs *reader) {
	rt.mu.Lock()
	for len(subs.b) > 0 && !subs.bad {
		if sub := rt.subs[subs.uvarint()]; sub != nil && sub.node == lk.caller.node {
			rt.strand(sub)
		}
	}
	rt.mu.Unlock()
	rt.f.poke(rt, 1<<shard)
}

// request is the request of a work that a tag names: its id, whether it has been answered, and whether it is quiet.
func (w *work) request(tag uint64) (id []byte, done *bool, quiet, ok bool) {
	i := int(tag & tagIndex)
	if w.control != nil {
		return w.control.id, &w.control.done, w.control.quiet, i == 0
	}
	if tag&tagAck != 0 {
		if i >= len(w.acks) {
			return nil, nil, false, false
		}
		a := &w.acks[i]
		return w.str(a.id), &a.done, a.quiet, true
	}
	if i >= len(w.pubs) {
		return nil, nil, false, false
	}
	p := &w.pubs[i]
	return w.str(p.id), &p.done, p.quiet, true
}

// silent reports whether nobody is told what becomes of a work.
func (w *work) silent() bool { return w.control != nil && w.control.silent }

// each calls f for each request that has not been answered.
func (w *work) each(f func(id []byte, done *bool)) {
	if c := w.control; c != nil {
		if !c.done {
			f(c.id, &c.done)
		}
		return
	}
	for i := range w.acks {
		if a := &w.acks[i]; !a.done {
			f(w.str(a.id), &a.done)
		}
	}
	for i := range w.pubs {
		if p := &w.pubs[i]; !p.done {
			f(w.str(p.id), &p.done)
		}
	}
}

// giveUp answers those requests of a work that was lost which must not be asked again.
func (w *work) giveUp(s *Session, say *answers) {
	if w.control != nil {
		if w.left = 1; !w.repeatable(0) {
			say.fail(s, w.control.id, errUnknownOutcome)
			w.left = 0
		}
		return
	}
	w.left = 0
	for i := range w.acks {
		if a := &w.acks[i]; a.done {
			continue
		} else if w.repeatable(tagAck | uint64(i)) {
			w.left++
			w.doubt = true
		} else {
			a.done = true
			w.answered++
			say.fail(s, w.str(a.id), errUnknownOutcome)
		}
	}
	for i := range w.pubs {
		if p := &w.pubs[i]; !p.done {
			p.done = true
			w.answered++
			say.fail(s, w.str(p.id), errUnknownOutcome)
		}
	}
}

// tooLate answers what has waited for a leader for too long: nothing of it has been done, but acks that a leader has had which was lost.
func (w *work) tooLate(s *Session, say *answers) {
	for i := range w.acks {
		if a := &w.acks[i]; w.doubt && !a.done {
			a.done = true
			say.fail(s, w.str(a.id), errUnknownOutcome)
		}
	}
	w.each(func(id []byte, _ *bool) { say.fail(s, id, errNoQuorum) })
}

// trim takes out of a work what has been answered.
func (w *work) trim() {
	pubs, acks, end := w.pubs[:0], w.acks[:0], 0
	for _, p := range w.pubs {
		from, to := int(p.at), int(p.at)
		for range p.n {
			_, to = journal.NextRecord(w.batch.Data, to)
		}
		if p.done {
			continue
		}
		p.at = int32(end)
		end += copy(w.batch.Data[end:], w.batch.Data[from:to])
		pubs = append(pubs, p)
	}
	for _, a := range w.acks {
		if !a.done {
			acks = append(acks, a)
		}
	}
	w.pubs, w.acks, w.batch.Data = pubs, acks, w.batch.Data[:end]
	w.answered = 0
	w.left = w.undone()
}

// undone is how many requests of a work have not been answered.
func (w *work) undone() (n int) {
	w.each(func([]byte, *bool) { n++ })
	return n
}

// silentID is the first byte of the id of a subscription that this node's own shard makes again: no client's id begins with it.
const silentID = 0

// notMadeAgain is told that a subscription which the client has could not be made again here.
func (sh *shard) notMadeAgain(s *Session, id []byte, err *wire.Error) {
	n, _ := number(id[1:])
	if err.Code == wire.CodeNoQuorum {
		s.route.lost(sh.index, []uint64{n})
	} else {
		sh.tellEnded(s, n, err.Message)
	}
}
