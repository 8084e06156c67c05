package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/gmq/gmq/internal/admin"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/internal/journal/mysqljournal"
	"github.com/gmq/gmq/internal/journal/mysqljournal/rows"
	"github.com/gmq/gmq/internal/outbox"
)

// openMySQL makes the tables ours, if some are configured. That may have to wait for another server's end: a signal ends the wait.
func (in *instance) openMySQL(data string, signals chan os.Signal) error {
	c := in.cfg.Storage.MySQL
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	opened, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					cancel()
				}
			case <-opened:
				return
			}
		}
	}()
	node, owner := in.names(data)
	opt := mysqljournal.Options{
		DSN: c.DSN, Shards: broker.Shards, Format: rows.Format(), Node: node, Owner: owner,
		CacheBytes: cacheMemory(&in.cfg), MaxMessageBytes: int(in.cfg.Limits.MaxMessageBytes), Takeover: time.Duration(c.Takeover),
		Logf: func(format string, args ...any) { in.log.Warn(fmt.Sprintf(format, args...)) },
	}
	j, err := mysqljournal.Open(ctx, opt)
	close(opened)
	<-over
	switch {
	case err != nil:
		return fmt.Errorf("storage.mysql.dsn: %w", err)
	case ctx.Err() != nil: // the signal came when the tables were just ours
		return errors.Join(ctx.Err(), j.Close())
	}
	in.mysql, in.moves = j, c.Outbox
	return nil
}

// names are what the tables call their owner. A node does not wait for its former self: the directory has one process at a time. A
// copy of the directory elsewhere is another node.
func (in *instance) names(data string) (node, owner string) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%016x\x00%s\x00%s", in.wal.ID(), host, data))
	return hex.EncodeToString(sum[:16]), fmt.Sprintf("process %d on %s with the data in %s", os.Getpid(), host, data)
}

// mysqlStorages is the storage in tables, if it is configured.
func (in *instance) mysqlStorages() []broker.Storage {
	if in.mysql == nil {
		return nil
	}
	return []broker.Storage{{Name: "mysql", Stored: "mysql", Remote: true, Shared: true, Spread: in.mysql.Spread, Open: in.mysql.Shard}}
}

// closeJournals closes what outlives the broker.
func (in *instance) closeJournals() error {
	err := in.wal.Close()
	if in.mysql != nil {
		err = errors.Join(err, in.mysql.Close())
	}
	return err
}

// cacheMemory is the part of limits.memory that is for the caches of what outlives the process, each of them; its size is fixed
// at the start.
func cacheMemory(c *config.Config) int64 {
	n := int64(c.Limits.Memory) - queueMemory(c)
	if c.Storage.MySQL != nil {
		n /= 2
	}
	return n
}

// outboxTable is the journal's table as the mover wants it.
type outboxTable struct{ *mysqljournal.Outbox }

func (t outboxTable) Rows(ctx context.Context, limit, maxBytes int, butQueues, butTopics []string) ([]outbox.Row, error) {
	got, err := t.Outbox.Rows(ctx, limit, maxBytes, butQueues, butTopics)
	rows := make([]outbox.Row, len(got))
	for i := range got {
		rows[i] = outbox.Row(got[i])
	}
	return rows, err
}

// startOutbox begins to move what applications put into the outbox; stopOutbox ends that.
func (in *instance) startOutbox() {
	if !in.moves {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	in.stopOutbox = func(ctx context.Context) {
		cancel()
		select {
		case <-over:
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(over)
		err := outbox.Run(ctx, outbox.Options{
			Table:   outboxTable{in.mysql.Outbox()},
			Open:    func() outbox.Publisher { return outbox.NewSession(in.broker) },
			Ended:   func(err error) bool { return errors.Is(err, mysqljournal.ErrFenced) },
			Logf:    func(format string, args ...any) { in.log.Warn(fmt.Sprintf(format, args...)) },
			MaxBody: func() int { return in.broker.Limits().MaxMessageBytes },
			Stats:   &in.moved,
		})
		if err != nil {
			in.failed <- err
		}
	}()
}

// outboxStats are what the admin address tells of the outbox.
func (in *instance) outboxStats() *admin.OutboxStats {
	if !in.moves {
		return nil
	}
	m := &in.moved
	return &admin.OutboxStats{Published: m.Published.Load(), Refused: m.Refused.Load(), Held: int(m.Held.Load())}
}
