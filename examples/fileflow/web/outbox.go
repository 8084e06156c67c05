package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gmq/gmq/examples/fileflow/internal/flow"
)

// An outbox keeps a note of every message until the broker has confirmed it,
// on disk, so that neither the broker's absence nor our own end loses one. A
// message may go out twice; the workers know how to take that.
type outbox struct {
	dir  string
	send func(context.Context, flow.Job) error
	log  *slog.Logger
	wake chan struct{} // holds a token while late may have something

	mu   sync.Mutex // guards the following
	late []flow.Job // not confirmed in time; run sends them again
}

var errBehind = errors.New("earlier messages are waiting for the broker")

// openOutbox opens the outbox of a store and finds what an earlier process
// left in it.
func openOutbox(store string, log *slog.Logger, send func(context.Context, flow.Job) error) (*outbox, error) {
	o := &outbox{dir: filepath.Join(store, "outbox"), send: send, log: log, wake: make(chan struct{}, 1)}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(o.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		var job flow.Job
		if err := json.Unmarshal(raw, &job); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		o.later(job)
	}
	return o, nil
}

func (o *outbox) note(job flow.Job) string { return filepath.Join(o.dir, job.ID+".json") }

// put notes a message durably.
func (o *outbox) put(job flow.Job) error {
	raw, err := json.Marshal(job)
	if err == nil {
		_, err = flow.Create(o.note(job), bytes.NewReader(raw))
	}
	return err
}

// post sends a noted message and waits for the confirm until ctx ends. What
// is not confirmed goes out later. While others are late nobody waits: the
// broker is away.
func (o *outbox) post(ctx context.Context, job flow.Job) error {
	o.mu.Lock()
	behind := len(o.late) > 0
	o.mu.Unlock()
	err := errBehind
	if !behind {
		err = o.send(ctx, job)
	}
	if err != nil {
		o.later(job)
		return err
	}
	o.confirmed(job)
	return nil
}

// confirmed forgets a message. A note that survives a crash here only means
// that the message goes out twice, so it need not be durable.
func (o *outbox) confirmed(job flow.Job) {
	if err := os.Remove(o.note(job)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.log.Error("cannot forget a message", "id", job.ID, "error", err)
	}
}

func (o *outbox) later(job flow.Job) {
	o.mu.Lock()
	o.late = append(o.late, job)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// retryWait is between two attempts that the broker has refused; the client
// itself waits for a broker that is away.
const retryWait = time.Second

// run sends what is late, one after the other, until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for {
		job, ok := o.first()
		if !ok {
			select {
			case <-o.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if err := o.send(ctx, job); err != nil {
			o.log.Warn("cannot send", "id", job.ID, "error", err)
			select {
			case <-time.After(retryWait):
				continue
			case <-ctx.Done():
				return
			}
		}
		o.confirmed(job)
		o.mu.Lock()
		o.late = o.late[1:]
		o.mu.Unlock()
	}
}

func (o *outbox) first() (flow.Job, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.late) == 0 {
		return flow.Job{}, false
	}
	return o.late[0], true
}
