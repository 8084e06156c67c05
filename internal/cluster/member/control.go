package member

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/wire"
)

// Nodes ask each other one thing on a connection: a line of JSON, and a line with the answer.
const (
	maxMessage  = 1 << 20
	askTimeout  = 5 * time.Second
	joinTimeout = 20 * time.Second
	// leaderWait is how long it may take to find who leads: an election normally ends within it. Where nobody was known to for cutOff, which is
	// longer than one takes, it is waited for no longer than cutOffWait: as a rule this node is cut off, or too few others are there.
	leaderWait = 2 * time.Second
	cutOff     = 3 * time.Second
	cutOffWait = 500 * time.Millisecond
	leaderStep = 50 * time.Millisecond
)

// A message is what is asked.
type message struct {
	Op   string       `json:"op"`
	Name string       `json:"name,omitempty"` // of a document, or of a node
	Data []byte       `json:"data,omitempty"`
	Join *joinRequest `json:"join,omitempty"`
	Self *selfMessage `json:"self,omitempty"`
	Life string       `json:"life,omitempty"` // of a token; of a node that leads nothing
}

// The operations between nodes.
const (
	askPut      = "put"      // keep a document
	askJoin     = "join"     // let a node in
	askAnnounce = "announce" // this is what I am now
	askStatus   = "status"   // how are your groups
	askToken    = "token"
	askRemove   = "remove"
	askIdle     = "idle" // let a node lead nothing for a while
)

// A selfMessage is a node, as it says itself.
type selfMessage struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Address  string `json:"address"`
	Client   string `json:"client"`
	Replicas int    `json:"replicas,omitempty"` // that its configuration asks for
	Process  string `json:"process,omitempty"`  // of its lives the one that says it
}

// An answer is what came of it.
type answer struct {
	Code   wire.Code             `json:"code,omitempty"` // it failed
	Error  string                `json:"error,omitempty"`
	Leader string                `json:"leader,omitempty"` // ask that node instead
	Other  bool                  `json:"other,omitempty"`  // ask another node, maybe later
	Gone   bool                  `json:"gone,omitempty"`   // who asks was taken out
	Join   *joinAnswer           `json:"join,omitempty"`
	Token  *tokenAnswer          `json:"token,omitempty"`
	Name   string                `json:"name,omitempty"`
	Life   string                `json:"life,omitempty"`
	Groups []cluster.GroupStatus `json:"groups,omitempty"`
	Text   string                `json:"text,omitempty"`   // the version of the program
	Holds  bool                  `json:"holds,omitempty"`  // it has the queues that are in a database
	Others []nodeAddress         `json:"others,omitempty"` // where whoever answers finds the other nodes
}

// A nodeAddress is where a node is.
type nodeAddress struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

func failed(err *wire.Error) *answer { return &answer{Code: err.Code, Error: err.Message} }

// failure is the answer where something was not kept. That this node does not lead any more is no reason to give up.
func failure(err error) *answer {
	if coded, ok := errors.AsType[*wire.Error](err); ok {
		a := failed(coded)
		a.Other = coded.Code == wire.CodeNoQuorum
		return a
	}
	return failed(&wire.Error{Code: wire.CodeOverloaded, Message: err.Error()})
}

// err is the answer's, or nil.
func (a *answer) err() *wire.Error {
	if a.Code == "" {
		return nil
	}
	return &wire.Error{Code: a.Code, Message: a.Error}
}

func reply(c net.Conn, a *answer) {
	_, _ = c.Write(append(encode(a), '\n')) // who does not get it asks again
}

func readLine(r io.Reader, v any) error {
	line, err := bufio.NewReader(io.LimitReader(r, maxMessage)).ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// answerControl answers what another node asks.
func (m *Manager) answerControl(c net.Conn, from uint64) {
	_ = c.SetDeadline(time.Now().Add(joinTimeout)) // without one the connection fails by itself
	var ask message
	if err := readLine(c, &ask); err != nil {
		return // it has nothing to ask
	}
	ctx, cancel := context.WithTimeout(m.ctx, askTimeout)
	defer cancel()
	reply(c, m.carryOut(ctx, from, &ask))
}

// ask asks another node. The error is that it could not be asked, or did not answer.
func (m *Manager) ask(ctx context.Context, node uint64, q *message) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := m.Dial(ctx, node, control)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // it ends what is waited for
	defer stop()
	if _, err := c.Write(append(encode(q), '\n')); err != nil {
		return nil, err
	}
	a := &answer{}
	if err := readLine(c, a); err != nil {
		return nil, err
	}
	if a.Gone {
		m.tookOut()
	}
	return a, nil
}

// watchLeader sees to it that it is known how long nobody has led. It is a goroutine of its own, as the manager's waits for other nodes.
func (m *Manager) watchLeader() {
	tick := time.NewTicker(m.opt.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.patience(time.Now())
		case <-m.done:
			return
		}
	}
}

// patience is how long it is waited now for somebody to lead.
func (m *Manager) patience(now time.Time) time.Duration {
	if m.opt.Leader() != 0 {
		m.led.Store(&now)
	} else if led := m.led.Load(); led != nil && now.Sub(*led) > cutOff {
		return cutOffWait
	}
	return leaderWait
}

// atLeader has something carried out where the documents are kept. It looks for that node for a while.
func (m *Manager) atLeader(ctx context.Context, q *message) *answer {
	deadline := time.Now().Add(m.patience(time.Now()))
	hint := uint64(0)
	for {
		node := m.opt.Leader()
		if node == 0 {
			node = hint
		}
		if node == m.id {
			if a := m.carryOut(ctx, node, q); !a.Other {
				return a
			}
		} else if node != 0 {
			// Whatever is asked may be asked twice, so where no answer has come it is.
			a, err := m.ask(ctx, node, q)
			if err == nil && !a.Other {
				return a
			}
			if hint = 0; err == nil && a.Leader != "" {
				hint, _ = parseID(a.Leader) // 0 where it is none
			}
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return failed(wire.Errorf(wire.CodeNoQuorum, "nobody leads the group that keeps what the cluster knows of itself; is a majority of the nodes there?"))
		}
		select {
		case <-ctx.Done():
		case <-m.done:
			return failed(wire.Errorf(wire.CodeShuttingDown, "the server is shutting down"))
		case <-time.After(leaderStep):
		}
	}
}

// Put keeps a document, on whichever node that is done. The error is a *wire.Error.
func (m *Manager) Put(name string, data []byte) error {
	ctx, cancel := context.WithTimeout(m.ctx, askTimeout)
	defer cancel()
	if err := m.atLeader(ctx, &message{Op: askPut, Name: name, Data: data}).err(); err != nil {
		return err
	}
	return nil
}

// carryOut does what is asked, by another node or by this one.
func (m *Manager) carryOut(ctx context.Context, from uint64, q *message) (a *answer) {
	switch q.Op {
	case askStatus:
		return &answer{Name: m.Name(), Life: m.life, Groups: m.opt.Status(), Text: m.opt.Version, Holds: m.opt.Holds()}
	case askAnnounce:
		defer func() {
			if a.Code == "" {
				a.Others = m.whereabouts()
			}
		}()
		if q.Self == nil || q.Self.ID != IDText(from) {
			return failed(wire.Errorf(wire.CodeBadRequest, "a node announces itself, and nobody else"))
		}
		m.hear(from, q.Self)
	}
	if leader := m.opt.Leader(); leader != m.id {
		a := &answer{Other: true}
		if leader != 0 {
			a.Leader = IDText(leader)
		}
		return a
	}
	switch q.Op {
	case askPut:
		if err := m.opt.Put(q.Name, q.Data); err != nil {
			return failure(err)
		}
		return &answer{}
	case askJoin:
		return m.letIn(q.Join)
	case askAnnounce:
		return m.announced(q.Self)
	case askToken:
		return m.makeToken(q.Life)
	case askRemove:
		return m.takeOut(ctx, q.Name)
	case askIdle:
		return m.makeIdle(ctx, q.Name, q.Life)
	}
	return failed(wire.Errorf(wire.CodeUnknownOp, "nodes do not ask each other to %q", q.Op))
}

// everybody asks all other nodes at the same time, and gives what those say that answer.
func (m *Manager) everybody(ctx context.Context, q *message) map[uint64]*answer {
	var mu sync.Mutex // guards all
	all := map[uint64]*answer{}
	var wg sync.WaitGroup
	for _, n := range m.Nodes() {
		if n.ID == m.id {
			continue
		}
		wg.Go(func() {
			a, err := m.ask(ctx, n.ID, q)
			if err != nil {
				return
			}
			mu.Lock()
			all[n.ID] = a
			mu.Unlock()
		})
	}
	wg.Wait()
	return all
}

// statuses are what the nodes say of their groups, this one's among them.
func (m *Manager) statuses(ctx context.Context) map[uint64]*answer {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	all := m.everybody(ctx, &message{Op: askStatus})
	all[m.id] = m.carryOut(ctx, m.id, &message{Op: askStatus})
	return all
}

// tookOut is called when another node says that this one is no member any more.
func (m *Manager) tookOut() {
	m.mu.Lock()
	known := m.self.removed
	m.mu.Unlock()
	if known {
		return
	}
	if err := m.save(func(i *identity) { i.removed = true }); err != nil {
		m.opt.Logf("that this node was taken out is not kept: %v", err)
		return
	}
	m.opt.Logf("this node was taken out of the cluster")
	m.opt.Removed()
}

// hear notes where a node says that it is.
func (m *Manager) hear(node uint64, s *selfMessage) {
	if checkAddress(s.Address) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heard[node].Address != s.Address {
		m.heard[node] = Node{ID: node, Address: s.Address, Client: s.Client}
	}
}

func unknownNode(name string) *wire.Error {
	return wire.Errorf(wire.CodeNotFound, "there is no node %q; gmq cluster status names them", name)
}

// find is the node of that name or id.
func (m *Manager) find(name string) (Node, *wire.Error) {
	for _, n := range m.Nodes() {
		if n.Name == name || IDText(n.ID) == name {
			return n, nil
		}
	}
	return Node{}, unknownNode(name)
}

// putNode keeps a node's document, changed by f. It is called with changing held.
func (m *Manager) putNode(n Node, f func(*Node)) error {
	f(&n)
	n.revision++
	if err := m.opt.Put(nodePrefix+IDText(n.ID), n.document()); err != nil {
		return fmt.Errorf("node %s is not kept: %w", n.Name, err)
	}
	return nil
}
