package broker

import (
	"strings"

	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// A document is something that is kept beside the queues, by name: who the users are, say. The broker does not know
// what is in it. All documents are shard 0's, in a storage that outlives the process where there is one.

// A watcher is told of documents whose names begin with prefix.
type watcher struct {
	prefix string
	tell   func(name string, data []byte)
}

// documents is where shard 0 keeps documents.
func (sh *shard) documents() *store {
	for _, st := range sh.stores {
		if st.Stored != "memory" {
			return st
		}
	}
	return sh.stores[0]
}

// PutDocument keeps a document and waits until it is as safe as its storage makes anything, and the watchers have been
// told. No data means that there is to be none. It must not be called from a shard's goroutine. The error is a
// *wire.Error: there is no room, or the server is ending.
func (b *Broker) PutDocument(name string, data []byte) error {
	done := make(chan struct{})
	var refused error // written before done is closed
	if !b.shards[0].call(func(sh *shard) {
		st := sh.documents()
		st.record(task{aside: &aside{document: &kept{name: name, done: func(err error) { refused = err; close(done) }}}}).write(func(dst []byte) []byte {
			return queue.AppendDocument(dst, sh.now, name, data)
		})
	}) {
		return errShuttingDown
	}
	select {
	case <-done:
		return refused
	default:
	}
	if b.opt.Scheduler != nil {
		b.await(done)
		return refused
	}
	select {
	case <-done:
		return refused
	case <-b.shards[0].over: // it may never be decided
		return errShuttingDown
	}
}

// WatchDocuments calls tell for every document whose name begins with prefix, in order, and from then on for each that
// is put, in the shard's goroutine: tell must not wait, nor change data. Without data the document is gone.
func (b *Broker) WatchDocuments(prefix string, tell func(name string, data []byte)) {
	b.shards[0].call(func(sh *shard) {
		st := sh.documents()
		for _, name := range st.state.DocumentNames() {
			if strings.HasPrefix(name, prefix) {
				tell(name, st.state.Document(name))
			}
		}
		sh.watchers = append(sh.watchers, watcher{prefix, tell})
	})
}

// A kept is a document on its way.
type kept struct {
	name string
	done func(error)
}

// documentKept tells whoever put a document, and the watchers, what has become of it.
func (sh *shard) documentKept(st *store, d *kept, out queue.Outcome) {
	if out.Refusal == queue.TooManyDocuments {
		d.done(wire.Errorf(wire.CodeOverloaded, "document %q: there are too many, or they are too large; the limits are %d of %d bytes and %d bytes together",
			d.name, queue.MaxDocuments, queue.MaxDocument, queue.MaxDocumentsSum))
		return
	}
	sh.tellDocument(st, d.name)
	d.done(nil)
}

// tellDocument tells the watchers what a document is now.
func (sh *shard) tellDocument(st *store, name string) {
	data := st.state.Document(name)
	for _, w := range sh.watchers {
		if strings.HasPrefix(name, w.prefix) {
			w.tell(name, data)
		}
	}
}
