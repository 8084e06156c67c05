package broker

import (
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// follow applies a batch that nobody here waits for: another node has proposed it, or this one when it led. What others than the
// queues' consumers see of it is brought up to date.
func (sh *shard) follow(st *store, b *journal.Batch) error {
	if b.Err != nil {
		return nil
	}
	for off := 0; off < len(b.Data); {
		payload, _ := journal.NextRecord(b.Data, off)
		out, next, err := st.apply(b, off)
		if err != nil {
			return err
		}
		off = next
		sh.notice(st, payload, out)
	}
	return nil
}

// notice keeps the index of topics, the counts of queues and the watchers of documents in step with a record that was applied.
func (sh *shard) notice(st *store, record []byte, out queue.Outcome) {
	change, text := queue.ChangeOf(record)
	switch {
	case change == queue.NoChange || out.Refusal != queue.Done:
	case change == queue.QueueMade:
		sh.countQueues()
	case change == queue.QueueGone:
		sh.unindex(out.Queue)
		sh.deleted(st)
	case change == queue.Bound:
		sh.b.topics.bind(text, sh.boundOf(st, out.Queue), true)
	case change == queue.Unbound && out.N > 0:
		sh.b.topics.bind(text, sh.boundOf(st, out.Queue), false)
	case change == queue.DocumentPut:
		sh.tellDocument(st, text)
	}
}
