package broker

import (
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A publish to a topic to which one queue is bound goes the way of a publish to that queue: nothing has to be claimed anywhere, all or none
// is what a batch is anyway, and its order is that of the queue. Only its replies are those of topics.

// failPub answers a publish that was refused. A queue that is gone took nothing of what was for a topic; and who may not see
// the queue learns no more of it than that there is one.
func (sh *shard) failPub(w *work, p *pub, err *wire.Error) {
	if p.only != 0 && err.Code == wire.CodeNotFound {
		if !p.quiet {
			c := sh.reply(w.s)
			c.b = appendNoQueues(c.b, w.str(p.id))
		}
		return
	}
	if p.only != 0 && !w.s.sees(string(w.str(p.name))) {
		switch err.Code {
		case wire.CodeQueueFull, wire.CodeOverloaded, wire.CodeNotStored:
			err = discreet(err)
		}
	}
	sh.fail(w.s, w.str(p.id), err)
}

// appendNoQueues appends the reply to a publish to a topic that no queue took.
func appendNoQueues(dst, id []byte) []byte {
	return append(wire.AppendOK(dst, id), ",\"queues\":0}\n"...)
}

// appendTaken appends the reply to a publish to a topic that one queue took.
func (st *store) appendTaken(dst, id []byte, out queue.Outcome) []byte {
	dst = append(wire.AppendOK(dst, id), `,"queues":1,"stored":"`...)
	dst = append(append(dst, st.Stored...), '"')
	if repeated(out) {
		dst = append(dst, `,"duplicate":true`...)
	}
	return append(dst, "}\n"...)
}
