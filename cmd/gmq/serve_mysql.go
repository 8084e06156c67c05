package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gmq/gmq/internal/admin"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster/member"
	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/internal/journal/mysqljournal"
	"github.com/gmq/gmq/internal/journal/mysqljournal/rows"
	"github.com/gmq/gmq/internal/journal/mysqljournal/tenure"
	"github.com/gmq/gmq/internal/outbox"
)

// tables are this server's part in the queues in MySQL; without a holder it has none.
type tables struct {
	in     *instance
	holder *tenure.Holder
	moves  bool // the outbox, into queues; set before the first other goroutine

	mu     sync.Mutex            // guards the following; no other lock is taken under it
	now    *mysqljournal.Journal // nil: they are not this node's
	number uint64                // of the change by which now is what it is
	listen bool                  // clients are let in, and rows moved
	mover  *mover                // the latest, maybe stopped; nil: there was none
}

// openTables makes the tables ours, if some are configured and the server is alone, be it as the one node of a cluster. That may have to wait for another server's end: a signal ends the wait. A node
// of a cluster gets them when it comes to lead.
func (in *instance) openTables(data string, signals chan os.Signal) error {
	c := in.cfg.Storage.MySQL
	t := &in.tables
	t.in = in
	if c == nil {
		return nil
	}
	t.moves = c.Outbox
	opt := in.tablesOptions(data)
	hold := tenure.Options{
		Shards: broker.Shards, Node: in.node.member.ID(), Told: t.told,
		Logf: func(format string, args ...any) { in.log.Info("mysql: " + fmt.Sprintf(format, args...)) },
		Lost: func(err error) bool { return errors.Is(err, mysqljournal.ErrFenced) },
		Open: func(ctx context.Context) (tenure.Tables, error) { return in.openShared(ctx, opt) },
	}
	if len(in.node.others()) == 0 { // nobody else can have them but by mistake
		j, err := openAlone(opt, signals)
		if err != nil {
			return err
		}
		hold.Alone = j
	}
	t.holder = tenure.New(hold)
	return nil
}

func openAlone(opt mysqljournal.Options, signals chan os.Signal) (*mysqljournal.Journal, error) {
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
	j, err := mysqljournal.Open(ctx, opt)
	close(opened)
	<-over
	switch {
	case err != nil:
		return nil, fmt.Errorf("storage.mysql.dsn: %w", err)
	case ctx.Err() != nil: // the signal came when the tables were just ours
		return nil, errors.Join(ctx.Err(), j.Close())
	}
	return j, nil
}

func (in *instance) tablesOptions(data string) mysqljournal.Options {
	c := in.cfg.Storage.MySQL
	node, owner := in.names(data)
	return mysqljournal.Options{
		DSN: c.DSN, Shards: broker.Shards, Format: rows.Format(), Node: node, Owner: owner, Mate: in.mate,
		CacheBytes: cacheMemory(&in.cfg), MaxMessageBytes: int(in.cfg.Limits.MaxMessageBytes), Takeover: time.Duration(c.Takeover),
		Logf: func(format string, args ...any) { in.log.Warn(fmt.Sprintf(format, args...)) },
	}
}

// names are what the tables call their owner. A server does not wait for its former self: the directory has one process at a time. A
// copy of the directory elsewhere is another server, though it has the number of the same node.
func (in *instance) names(data string) (node, owner string) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%016x\x00%s\x00%s", in.wal.ID(), host, data))
	return member.IDText(in.node.member.ID()) + hex.EncodeToString(sum[:8]), fmt.Sprintf("process %d on %s with the data in %s", os.Getpid(), host, data)
}

// mate reports whether an owner of the tables is a node of this one's cluster.
func (in *instance) mate(name string) bool {
	return slices.ContainsFunc(in.node.all(), func(id uint64) bool { return strings.HasPrefix(name, member.IDText(id)) })
}

// told is called when the tables have become this node's, or have ceased to be.
func (t *tables) told(now tenure.Tables, number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if number <= t.number { // of before what is known
		return
	}
	t.number = number
	t.now, _ = now.(*mysqljournal.Journal)
	t.move()
}

// has reports whether the tables are this node's.
func (t *tables) has() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now != nil
}

// up reports whether the database takes what is stored; nil where this node does not lead, or nothing is configured.
func (t *tables) up() *bool {
	if t.holder == nil {
		return nil
	}
	t.mu.Lock()
	now := t.now
	t.mu.Unlock()
	switch {
	case now != nil:
		return new(now.Outage() == nil)
	case t.holder.Wants():
		return new(bool)
	}
	return nil
}

// mysqlStorages is the storage in tables, if it is configured.
func (in *instance) mysqlStorages() []broker.Storage {
	h := in.tables.holder
	if h == nil {
		return nil
	}
	return []broker.Storage{{Name: "mysql", Stored: "mysql", Remote: true, Shared: true, Syncs: true, Replicated: true, Spread: h.Spread, Open: h.Shard}}
}

// closeJournals closes what outlives the broker.
func (in *instance) closeJournals() error {
	err := in.wal.Close()
	if h := in.tables.holder; h != nil {
		err = errors.Join(err, h.Close())
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

// A mover moves what applications put into the outbox, while this node has the tables.
type mover struct {
	stop context.CancelFunc
	over chan struct{}
}

// startOutbox begins to move what applications put into the outbox, here or where the tables come to be this node's; stopOutbox ends that.
func (t *tables) startOutbox() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listen = true
	t.move()
}

func (t *tables) stopOutbox(ctx context.Context) {
	t.mu.Lock()
	t.listen = false
	last := t.mover
	t.move()
	t.mu.Unlock()
	if last != nil {
		select {
		case <-last.over:
		case <-ctx.Done():
		}
	}
}

// move has rows moved, or not any more. One mover begins when the one before has ended. Called with mu held.
func (t *tables) move() {
	last := t.mover
	if last != nil {
		last.stop()
	}
	if !t.moves || !t.listen || t.now == nil {
		return // the next one waits for its end
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &mover{cancel, make(chan struct{})}
	t.mover = m
	in, j := t.in, t.now
	go func() {
		defer close(m.over)
		if last != nil {
			<-last.over
		}
		err := outbox.Run(ctx, outbox.Options{
			Table:   outboxTable{j.Outbox()},
			Open:    func() outbox.Publisher { return outbox.NewSession(in.broker) },
			Ended:   func(err error) bool { return errors.Is(err, mysqljournal.ErrFenced) },
			Logf:    func(format string, args ...any) { in.log.Warn(fmt.Sprintf(format, args...)) },
			MaxBody: func() int { return in.broker.Limits().MaxMessageBytes },
			Stats:   &in.moved,
		})
		if err != nil && !in.node.member.Member() { // else another node moves them
			in.failed <- err
		}
	}()
}

// outboxStats are what the admin address tells of the outbox.
func (in *instance) outboxStats() *admin.OutboxStats {
	if !in.tables.moves {
		return nil
	}
	m := &in.moved
	return &admin.OutboxStats{Published: m.Published.Load(), Refused: m.Refused.Load(), Held: int(m.Held.Load())}
}
