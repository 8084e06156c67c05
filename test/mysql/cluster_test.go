//go:build unix

package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/mariadb"
)

var faults = flag.String("faults", "pause,remove,kill", "what is done to the owner of the tables in a cluster, one after the other: pause, stop, kill, transfer, remove, database")

// The load on a cluster: lanes publish to queues, and a consumer for each queue acks all that comes.
const (
	lanes = 2 // for each queue; one more is what an application inserts into the outbox
	pace  = 10 * time.Millisecond
	// memoryRest is how long a node that has been started again is left alone, as docs/cluster.md wants it.
	memoryRest = 10 * time.Second
)

// storages are those of the queues; each queue is called after its storage.
var storages = []string{"mysql", "file", "memory"}

// A sent message is what its clients know of it.
type sent struct{ confirmed, delivered, acked bool }

// A book has all messages, by queue, lane and number.
type book struct {
	t *testing.T

	mu        sync.Mutex // guards the following
	of        map[string]*[lanes + 1][]sent
	confirmed int
	latest    map[string]time.Time // of the confirms, by queue: when what was confirmed had been sent
	slowest   map[string]time.Duration
	again     int // deliveries of what had been delivered
	back      int // of what was acked
}

func newBook(t *testing.T) *book {
	b := &book{t: t, of: map[string]*[lanes + 1][]sent{}, latest: map[string]time.Time{}, slowest: map[string]time.Duration{}}
	for _, q := range storages {
		b.of[q] = &[lanes + 1][]sent{}
	}
	return b
}

// publish publishes until stop is over, and then waits for what is on its way.
func (b *book) publish(ctx, stop context.Context, c *gmq.Client, queue string, lane int) {
	var way sync.WaitGroup
	defer way.Wait()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for stop.Err() == nil {
		select {
		case <-tick.C:
		case <-stop.Done():
			return
		}
		b.mu.Lock()
		l := &b.of[queue][lane]
		n := len(*l)
		*l = append(*l, sent{})
		b.mu.Unlock()
		at := time.Now()
		send := func() *gmq.Future {
			return c.Queue(queue).SendAsync(ctx, []int{lane, n}, gmq.DedupID(fmt.Sprint(lane, "-", n)))
		}
		f := send()
		way.Go(func() {
			_, err := f.Wait(ctx)
			for errors.Is(err, gmq.ErrOverloaded) { // while the database is away
				_, err = send().Wait(ctx)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			if err != nil {
				b.t.Errorf("%s: %d/%d: %v", queue, lane, n, err)
				return
			}
			b.of[queue][lane][n].confirmed = true
			b.confirmed++
			if at.After(b.latest[queue]) {
				b.latest[queue] = at
			}
			b.slowest[queue] = max(b.slowest[queue], time.Since(at))
		})
	}
}

// insert inserts rows into the outbox: what is committed is as good as confirmed.
func (b *book) insert(stop context.Context, db *sql.DB, queue string) {
	tick := time.NewTicker(2 * pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-stop.Done():
			return
		}
		b.mu.Lock()
		b.of[queue][lanes] = append(b.of[queue][lanes], sent{})
		b.mu.Unlock()
		_, err := db.Exec("INSERT INTO gmq_outbox (queue, body) VALUES (?, ?)", queue, fmt.Sprintf("[%d,%d]", lanes, n))
		b.mu.Lock()
		b.of[queue][lanes][n].confirmed = err == nil // else nobody knows
		b.mu.Unlock()
	}
}

// consume acks all that comes.
func (b *book) consume(ctx context.Context, c *gmq.Client, queue string) {
	var way sync.WaitGroup
	defer way.Wait()
	for ctx.Err() == nil {
		for m, err := range c.Queue(queue).Messages(ctx, gmq.Credit(64)) {
			if err != nil {
				break // begin another one
			}
			var at [2]int
			if err := m.Decode(&at); err != nil {
				b.t.Errorf("%s: %v", queue, err)
				continue
			}
			b.mu.Lock()
			s := &b.of[queue][at[0]][at[1]]
			if s.delivered {
				b.again++
			}
			if s.acked {
				b.back++
				b.t.Errorf("%s: %d/%d came back after its ack, attempt %d, redelivered %v", queue, at[0], at[1], m.Attempt, m.Redelivered)
			}
			s.delivered = true
			b.mu.Unlock()
			a := m.AckAsync()
			way.Go(func() {
				if a.Wait(ctx) == nil {
					b.mu.Lock()
					b.of[queue][at[0]][at[1]].acked = true
					b.mu.Unlock()
				}
			})
		}
	}
}

// recovered reports whether each of the queues has confirmed something that was sent after a moment.
func (b *book) recovered(from time.Time, queues []string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !slices.ContainsFunc(queues, func(q string) bool { return !b.latest[q].After(from) })
}

// missing are the confirmed messages that have not come. Whether an ack was kept is not always told, so that the queues say whether all are.
func (b *book) missing() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range storages {
		for lane := range b.of[q] {
			for n, s := range b.of[q][lane] {
				if s.confirmed && !s.delivered {
					all = append(all, fmt.Sprintf("%s: %d/%d", q, lane, n))
				}
			}
		}
	}
	return all
}

// A turns is a cluster of three whose nodes have the tables in turn.
type turns struct {
	t     *testing.T
	db    *mariadb.Server
	dsn   string
	conf  string
	nodes []*harness.Server
	ask   *gmq.Client
	owner string // by name, when it was looked for last
}

func newTurns(t *testing.T) *turns {
	db := mariadb.Get(t)
	dsn := db.Database(t)
	config := fmt.Sprintf("storage: {mysql: {dsn: %q, outbox: true}}\ncluster: {listen: \"127.0.0.1:0\"}\n", dsn)
	c := &turns{t: t, db: db, dsn: dsn, conf: config, nodes: []*harness.Server{harness.Start(t, config)}}
	for range 2 {
		one, err := gmq.Dial(t.Context(), c.nodes[0].Addr)
		if err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, c.join(one))
		one.Close()
	}
	for _, n := range c.nodes {
		n.Stay()
	}
	c.ask = c.dial(0)
	return c
}

// join starts one more node, with a token that a client gets.
func (c *turns) join(at *gmq.Client) *harness.Server {
	c.t.Helper()
	token, _, err := at.JoinToken(c.t.Context(), 0)
	if err != nil {
		c.t.Fatal(err)
	}
	return harness.Join(c.t, c.conf, token)
}

// dial connects a client, to that node first.
func (c *turns) dial(first int) *gmq.Client {
	c.t.Helper()
	var addrs []string
	for i := range c.nodes {
		addrs = append(addrs, c.nodes[(first+i)%len(c.nodes)].Addr)
	}
	client, err := gmq.Dial(c.t.Context(), strings.Join(addrs, ","))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { client.Close() })
	return client
}

// settled waits until all nodes are members in step and one of them leads everything, and gives its place.
func (c *turns) settled() (owner int) {
	c.t.Helper()
	var s gmq.ClusterStatus
	var err error
	harness.Eventually(c.t, "one node leads all groups and has the tables", func() bool {
		if s, err = c.ask.ClusterStatus(c.t.Context()); err != nil || s.MySQL == "" || len(s.Groups) == 0 || len(s.Nodes) != len(c.nodes) {
			return false
		}
		for _, n := range s.Nodes {
			if n.State != "member" || !n.Reachable || n.Behind > 500 {
				return false
			}
		}
		if slices.ContainsFunc(s.Groups, func(g gmq.ClusterGroup) bool { return g.Leader != s.MySQL }) {
			return false
		}
		at := slices.IndexFunc(s.Nodes, func(n gmq.ClusterNode) bool { return n.Name == s.MySQL })
		owner = slices.IndexFunc(c.nodes, func(n *harness.Server) bool { return n.Addr == s.Nodes[at].Client })
		return owner >= 0 // else it has joined just now, and has not told where clients reach it
	})
	c.owner = s.MySQL
	return owner
}

// strike does something to the owner, and gives what makes it good.
func (c *turns) strike(owner *harness.Server, fault string) (mend func() error) {
	switch fault {
	case "kill":
		owner.Kill()
		return owner.Up
	case "stop":
		if code := owner.Term(); code != 0 {
			c.t.Errorf("the owner ends with %d", code)
		}
		return owner.Up
	case "transfer":
		if _, err := c.ask.TransferLeads(c.t.Context(), c.owner); err != nil {
			c.t.Fatal(err)
		}
		harness.Eventually(c.t, "another node has the tables", func() bool {
			s, err := c.ask.ClusterStatus(c.t.Context())
			return err == nil && s.MySQL != "" && s.MySQL != c.owner
		})
		return func() error { return nil }
	case "remove": // and another one comes in its place
		if err := c.ask.RemoveNode(c.t.Context(), c.owner); err != nil {
			c.t.Fatal(err)
		}
		return func() error {
			<-owner.Exited()
			n := c.join(c.ask)
			n.Stay()
			c.nodes[slices.Index(c.nodes, owner)] = n
			return nil
		}
	case "database": // and it is not there when the next one wants the tables
		c.db.NeedPrivate(c.t)
		c.db.Kill()
		owner.Kill()
		return func() error { return errors.Join(c.db.Up(), owner.Up()) }
	case "pause":
		if err := syscall.Kill(owner.PID(), syscall.SIGSTOP); err != nil {
			c.t.Fatal(err)
		}
		harness.Eventually(c.t, "it stands still", func() bool {
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", owner.PID()))
			if err != nil {
				c.t.Skip("this system does not tell whether a process stands still: ", err)
			}
			return strings.Contains(string(state), "State:\tT")
		})
		return func() error { return syscall.Kill(owner.PID(), syscall.SIGCONT) }
	}
	c.t.Fatalf("no fault %q", fault)
	return nil
}

// Whatever happens to the node that has the tables, another one goes on with the queues in them: nothing that was confirmed is lost, and nothing that was
// acked comes back. R168.
func TestOwnerInCluster(t *testing.T) {
	c := newTurns(t)
	b := newBook(t)
	for _, q := range storages {
		c.nodes[0].Dial(t).OK(`{"op":"queue.create","queue":%q,"storage":%q,"max_messages":0}`, q, q)
	}
	owner := c.settled()
	ctx, end := context.WithCancel(t.Context())
	stop, cease := context.WithCancel(ctx)
	var publishing, consuming sync.WaitGroup
	for i, q := range storages {
		for lane := range lanes {
			client := c.dial(i + lane)
			publishing.Go(func() { b.publish(ctx, stop, client, q, lane) })
		}
		client := c.dial(i + 1)
		consuming.Go(func() { b.consume(ctx, client, q) })
	}
	rows := mariadb.Connect(t, c.dsn)
	publishing.Go(func() { b.insert(stop, rows, "mysql") })
	harness.Eventually(t, "all queues confirm", func() bool { return b.recovered(time.Time{}, storages) })
	var mended time.Time
	restarted := false
	for i, fault := range strings.Split(*faults, ",") {
		if i > 0 && restarted { // a node that has forgotten what was in memory is given some time before another one does
			harness.Eventually(t, "the groups in memory have it", func() bool { return b.recovered(mended.Add(memoryRest), storages) })
		}
		at := time.Now()
		mend := c.strike(c.nodes[owner], fault)
		struck, queues := time.Now(), storages
		if fault == "database" {
			queues = []string{"file", "memory"}
		}
		harness.Eventually(t, "queues go on after "+fault, func() bool { return b.recovered(struck, queues) })
		t.Logf("%s: %v confirm what was sent after it %v later", fault, queues, time.Since(at).Round(time.Millisecond))
		if err := mend(); err != nil {
			t.Fatal(err)
		}
		was := owner
		mended, restarted = time.Now(), !slices.Contains([]string{"pause", "transfer", "remove"}, fault)
		owner = c.settled()
		harness.Eventually(t, "all queues go on after "+fault, func() bool { return b.recovered(mended, storages) })
		t.Logf("all go on and are in step %v after it is there again; the owner was %d and is %d", time.Since(mended).Round(time.Millisecond), was, owner)
		if was == owner {
			t.Errorf("after %s the tables are still the same node's", fault)
		}
	}
	cease()
	publishing.Wait()
	harness.Eventually(t, "the outbox and the queues are empty", func() bool {
		left := 1
		if err := rows.QueryRow("SELECT COUNT(*) FROM gmq_outbox").Scan(&left); err != nil || left > 0 {
			return false
		}
		for _, q := range storages {
			if info, err := c.ask.QueueInfo(t.Context(), q); err != nil || info.Counts.Ready+info.Counts.Leased+info.Counts.Delayed > 0 {
				return false
			}
		}
		return true
	})
	end()
	consuming.Wait()
	missing := b.missing()
	if len(missing) > 0 {
		t.Errorf("%d confirmed messages are lost, such as %s", len(missing), missing[0])
	}
	other := c.nodes[(owner+1)%len(c.nodes)]
	other.Kill()
	other.Configure("cluster: {listen: \"127.0.0.1:0\"}\n")
	if err := other.Up(); err == nil || other.ExitCode() != 1 || !strings.Contains(err.Error(), "every node must reach them") {
		t.Errorf("a node that cannot reach the tables starts: %v", err)
	}
	t.Logf("%d confirmed, %d lost, %d back after the ack, %d delivered again; the slowest confirm %v", b.confirmed, len(missing), b.back, b.again, b.slowest)
}
