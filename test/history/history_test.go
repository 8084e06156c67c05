package history

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

var (
	histories = flag.Int("histories", 10, "how many histories are recorded and checked; in every fifth one a leader is killed")
	seed      = flag.Uint64("seed", 0, "of what the clients do; 0: a new one")
)

const (
	each = 20 // operations of each
)

// A node is a process of the cluster.
type node struct {
	dir, addr string
	cmd       *exec.Cmd
}

// up starts the process, where it was if it was somewhere, and waits until it serves.
func (n *node) up(t *testing.T, token string) {
	t.Helper()
	if n.addr == "" {
		n.addr = "127.0.0.1:0"
	}
	args := []string{"serve", "--data", n.dir, "--listen", n.addr, "--admin", "off"}
	if token != "" {
		args = append(args, "--join", token)
	}
	n.cmd = exec.Command(harness.Exe(t), args...)
	stderr, err := n.cmd.StderrPipe()
	if err == nil {
		err = n.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(ready)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var line struct{ Msg, Listen string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
				ready <- line.Listen
			}
		}
	}()
	if n.addr = <-ready; n.addr == "" {
		t.Fatal("a node does not start")
	}
}

func (n *node) kill() {
	n.cmd.Process.Kill()
	n.cmd.Wait() // it says that it was killed
}

// A cluster is three nodes, and who asks them how they are.
type cluster struct {
	nodes []*node
	asks  *gmq.Client
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	for i := range 3 {
		n := &node{dir: filepath.Join(t.TempDir(), "data")}
		token := ""
		if i > 0 {
			out, err := exec.Command(harness.Exe(t), "cluster", "token", "--server", c.nodes[0].addr).Output()
			if err != nil {
				t.Fatal(err)
			}
			token = strings.TrimSpace(string(out))
		}
		n.up(t, token)
		t.Cleanup(n.kill)
		c.nodes = append(c.nodes, n)
	}
	var err error
	if c.asks, err = gmq.Dial(t.Context(), c.nodes[0].addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.asks.Close() })
	c.whole(t)
	return c
}

// whole waits until all nodes are members, and in step.
func (c *cluster) whole(t *testing.T) (leader *node) {
	t.Helper()
	harness.Eventually(t, "three nodes are in step", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		s, err := c.asks.ClusterStatus(ctx)
		most, members := -1, 0
		for _, n := range s.Nodes {
			if n.State != "member" || !n.Reachable || n.Behind > 0 {
				continue
			}
			members++
			for _, d := range c.nodes {
				if d.addr == n.Client && n.Leads > most {
					most, leader = n.Leads, d
				}
			}
		}
		return err == nil && members == 3
	})
	return leader
}

// A recorder is a history that is being made.
type recorder struct {
	began    time.Time
	receipts atomic.Int64

	mu  sync.Mutex // guards ops
	ops []porcupine.Operation
}

// do records one operation. Whoever has no answer does not get past it.
func (r *recorder) do(client int, in input, f func() output) output {
	call := time.Since(r.began).Nanoseconds()
	out := f()
	back := time.Since(r.began).Nanoseconds()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: back})
	return out
}

// A held message is one that a client has not settled.
type held struct {
	m       *gmq.Message
	receipt int
}

// client does some of everything to a queue. It fails no test, as it has a goroutine of its own.
func (r *recorder) client(ctx context.Context, number int, c *gmq.Client, queue string, chance *rand.Rand) (failed error) {
	q := c.Queue(queue)
	note := func(err error) {
		if err != nil && failed == nil {
			failed = fmt.Errorf("client %d: %w", number, err)
		}
	}
	var have []held
	for i := range each {
		switch dice := chance.IntN(100); {
		case dice < 40 || i == 0:
			r.do(number, input{op: publish}, func() output {
				p, err := q.Send(ctx, i, gmq.DedupID(fmt.Sprintf("%d-%d", number, i)))
				note(err)
				return output{seq: int(p.Seq)}
			})
		case dice < 75 || len(have) == 0:
			receipt := int(r.receipts.Add(1))
			r.do(number, input{op: receive}, func() output {
				ms, err := q.Receive(ctx, 1, 0)
				note(err)
				if len(ms) == 0 {
					return output{}
				}
				have = append(have, held{ms[0], receipt})
				return output{seq: int(ms[0].Seq), receipt: receipt, redelivered: ms[0].Redelivered}
			})
		default:
			k := chance.IntN(len(have))
			h := have[k]
			have = append(have[:k], have[k+1:]...)
			in := input{op: ack, receipt: h.receipt}
			if dice > 95 {
				in.op = nack
			}
			r.do(number, in, func() output {
				err := h.m.Ack
				if in.op == nack {
					err = func(ctx context.Context) error { return h.m.Nack(ctx, gmq.Delay(0)) }
				}
				said := err(ctx)
				if !errors.Is(said, gmq.ErrLeaseLost) {
					note(said)
				}
				return output{lost: errors.Is(said, gmq.ErrLeaseLost)}
			})
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// TestHistories has clients at different nodes use one queue, a leader being killed in some of the histories, and wants an order of
// what they did in which a queue could have done it.
func TestHistories(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("cd test/history && go test -count=1 -run TestHistories -histories %d -seed %d", *histories, *seed)
	c := newCluster(t)
	var all [clients]*gmq.Client
	for i := range all {
		var addrs []string
		for k := range c.nodes {
			addrs = append(addrs, c.nodes[(i+k)%len(c.nodes)].addr)
		}
		var err error
		if all[i], err = gmq.Dial(t.Context(), strings.Join(addrs, ",")); err != nil {
			t.Fatal(err)
		}
		defer all[i].Close()
	}
	for h := range *histories {
		var kill *node
		if h%5 == 4 {
			kill = c.whole(t)
		}
		queue := fmt.Sprintf("history.%d", h)
		if err := all[0].CreateQueue(t.Context(), queue, gmq.Settings{}); err != nil {
			t.Fatal(err)
		}
		r := &recorder{began: time.Now()}
		var over sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
		failures := make(chan error, clients)
		for i, one := range all {
			chance := rand.New(rand.NewPCG(*seed, uint64(h*clients+i)))
			over.Go(func() { failures <- r.client(ctx, i, one, queue, chance) })
		}
		if kill != nil {
			harness.Eventually(t, "the history has begun", func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				return len(r.ops) > clients*each/5
			})
			kill.kill()
		}
		over.Wait()
		cancel()
		for range clients {
			if err := <-failures; err != nil {
				t.Fatalf("history %d: %v", h, err)
			}
		}
		if got := porcupine.CheckOperationsTimeout(model(kill != nil), r.ops, 20*time.Second); got != porcupine.Ok {
			t.Errorf("history %d of %d operations, a leader killed: %v; it is no queue's: %v", h, len(r.ops), kill != nil, got)
			for _, o := range r.ops {
				t.Logf("client %d, %9d to %9d: %+v: %+v", o.ClientId, o.Call, o.Return, o.Input, o.Output)
			}
		}
		r.count(t, all[(h+1)%clients], queue)
		if kill != nil {
			kill.up(t, "")
		}
	}
}

// count compares what was published and not acked with what the queue says that it has: what was given to somebody who did not hear of it
// may be anywhere for a while, but not nowhere.
func (r *recorder) count(t *testing.T, c *gmq.Client, queue string) {
	t.Helper()
	published, of, acked := 0, map[int]int{}, map[int]bool{}
	for _, o := range r.ops {
		switch in, out := o.Input.(input), o.Output.(output); in.op {
		case publish:
			published++
		case receive:
			of[out.receipt] = out.seq
		case ack:
			if !out.lost {
				acked[in.receipt] = true
			}
		}
	}
	gone := map[int]bool{}
	for receipt := range acked {
		gone[of[receipt]] = true
	}
	info, err := c.QueueInfo(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	if n := info.Counts; int(n.Published) != published || int(n.Ready+n.Delayed+n.Leased) != published-len(gone) {
		t.Errorf("%s: the queue counts %+v; %d were published, %d acked", queue, n, published, len(gone))
	}
}
