package member

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/wire"
)

// Options say what a node is and what it is connected to. All but Dir, Listen, Put, Leader, Begin, Wish and Groups have defaults.
type Options struct {
	FS  vfs.FS // the file system of Dir; nil: the machine's
	Dir string // the data directory

	Name      string // "": the cluster gives one
	Listen    string // host:port for other nodes
	Derived   bool   // nobody has said Listen: it is two ports above where clients come in
	Advertise string // where they reach it; "": where it listens
	Client    string // where clients reach it; SetClient, where that is known later
	Replicas  int    // at how many nodes each group is to be: 1, 3 or 5; 0: nothing was said, which is 3 for a new cluster
	Groups    int    // how many groups each node has: the same on all
	Version   string // the program's

	// Tables names the database in which queues are that all nodes of a cluster reach, "" where there is none: all nodes must name the same. It may wait. nil: there is none.
	Tables func(ctx context.Context) (string, error)
	// Holds reports whether this node has those queues at the moment; nil: it never has.
	Holds func() bool
	// Put keeps a document. It is called only where this node leads the group that has them.
	Put func(name string, data []byte) error
	// Leader is the node that leads that group; 0: nobody known. A node alone leads.
	Leader func() uint64
	// Begin makes groups of a node alone; where they are there already it does nothing.
	Begin func() error
	// Wish is told who the members of all groups shall be.
	Wish func(cluster.Wish)
	// Status is what this node knows of its groups.
	Status func() []cluster.GroupStatus
	// Removed is told that this node is no member any more, once. The process should end.
	Removed func()

	Now   func() time.Time
	Every time.Duration // how often it looks whether there is something to do, 1 s
	Logf  func(format string, args ...any)
	// Tracef is told what passes by itself, for who looks for a fault; nil, and Logf is.
	Tracef func(format string, args ...any)
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	if o.Tracef == nil {
		o.Tracef = o.Logf
	}
	if o.Tables == nil {
		o.Tables = func(context.Context) (string, error) { return "", nil }
	}
	if o.Holds == nil {
		o.Holds = func() bool { return false }
	}
	if o.Removed == nil {
		o.Removed = func() {}
	}
	if o.Status == nil {
		o.Status = func() []cluster.GroupStatus { return nil }
	}
	return o
}

// DefaultReplicas is how many replicas groups have in a new cluster where nothing else is said.
const DefaultReplicas = 3

// A Node is one of the cluster's, as this node knows it.
type Node struct {
	ID      uint64
	Name    string
	Address string // where other nodes reach it
	Client  string // where clients do
	Joined  time.Time
	Leaving bool // it is being taken out

	replicas int       // that its configuration asks for; 0: it says nothing
	idle     time.Time // until then it is to lead nothing
	process  string    // that was asked to
	revision int
}

// A Manager is this node's part in membership.
type Manager struct {
	opt   Options
	id    uint64
	life  string // of this process: no other has it
	cert  atomic.Pointer[tls.Certificate]
	again chan struct{}   // something has changed
	ctx   context.Context // ends with the manager
	end   context.CancelFunc
	done  <-chan struct{}           // the context's
	led   atomic.Pointer[time.Time] // when somebody was known last to lead; nil: not since this process began
	over  sync.WaitGroup

	// changing is held by whoever changes the cluster, from looking until documents are kept. mu is taken under it.
	changing sync.Mutex
	// saving is held while the file is written. mu is taken under it.
	saving sync.Mutex

	mu       sync.Mutex // guards the following; nothing is waited for and no lock taken under it
	client   string
	begun    bool // the others know that this process is there
	arriving bool // it has joined since it began, and does not count yet
	self     identity
	ca       *authority // with its key once the document is there
	replicas int
	tables   string // the database in which all nodes have queues; "": none
	founded  bool   // that is known: it is kept before the settings are, and those are here
	placed   placing
	nodes    map[uint64]*Node
	heard    map[uint64]Node   // addresses that nodes have told us themselves, since this process began
	told     map[uint64]string // addresses of nodes that others have told us: they are members where those have heard of it
	stranger bool              // one was at the door of which we have not heard: maybe others have
	gone     map[uint64]goneDocument
	tokens   map[string]*joinToken
	changed  bool // the roster has, since the loop looked
	wish     cluster.Wish
	onNodes  []func([]Node)
	handlers map[Kind]func(net.Conn, uint64)
	listener net.Listener
	serving  bool
	conns    map[net.Conn]uint64 // that are handed over, and whose they are
	closed   bool
}

// Open reads what this node is, or makes it a new one.
func Open(opt Options) (*Manager, error) {
	m := &Manager{
		opt: opt.withDefaults(), again: make(chan struct{}, 1),
		nodes: map[uint64]*Node{}, heard: map[uint64]Node{}, told: map[uint64]string{}, gone: map[uint64]goneDocument{}, tokens: map[string]*joinToken{},
		handlers: map[Kind]func(net.Conn, uint64){}, conns: map[net.Conn]uint64{},
	}
	m.life = rand.Text()
	m.ctx, m.end = context.WithCancel(context.Background())
	m.done = m.ctx.Done()
	self, isNew, err := readIdentity(m.opt.FS, m.opt.Dir)
	if err != nil {
		return nil, err
	}
	if self.removed {
		return nil, errors.New("this node was taken out of its cluster, and what it has is out of date; join again with an empty data directory, " +
			"or make a cluster of one of it: gmq cluster recover")
	}
	// The clock sees to it that lives differ where the file cannot be written, the file that later ones are greater where the clock goes back.
	self.boot = max(self.boot+1, uint64(m.opt.Now().UnixNano()))
	if err := self.write(m.opt.FS, m.opt.Dir); err != nil {
		if isNew {
			return nil, err
		}
		m.opt.Logf("that this node has started is not kept: %v", err) // a disk that is full is no reason not to start
	}
	m.self, m.id, m.client = *self, self.id, m.opt.Client
	m.replicas = self.replicas
	if self.member {
		m.ca = &authority{cert: self.ca}
		m.cert.Store(self.tls())
		for _, n := range self.nodes {
			m.nodes[n.ID] = &n
		}
	}
	return m, nil
}

// ID is this node's number.
func (m *Manager) ID() uint64 { return m.id }

// Boot tells this life of the node from all others: it is greater than theirs.
func (m *Manager) Boot() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self.boot
}

// Leaving reports whether a node is being taken out.
func (m *Manager) Leaving(node uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[node]
	return n != nil && n.Leaving
}

// Name is what this node is called.
func (m *Manager) Name() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.opt.Name != "":
		return m.opt.Name
	case m.self.name != "":
		return m.self.name
	}
	return "n1"
}

// Member reports whether this node belongs to a cluster, be it as the only one: it has joined, or given a token.
func (m *Manager) Member() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self.member
}

// Tables names the database in which the cluster has queues, as Options.Tables does, "" where it has none. It is false where this node does not know yet.
func (m *Manager) Tables() (name string, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.self.member {
		return "", false // what there is of documents is of a cluster of long ago
	}
	return m.tables, m.founded
}

// SetClient says where clients reach this node, once that is known.
func (m *Manager) SetClient(address string) {
	m.mu.Lock()
	m.client = address
	m.mu.Unlock()
	m.poke()
}

func (m *Manager) clients() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

// Joined reports whether this node has become a member of a cluster that others had begun: what its groups hold comes from them.
func (m *Manager) Joined() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self.joined
}

// Nodes are all that are known, this one among them, in the order of their names. A node alone knows none.
func (m *Manager) Nodes() []Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.self.member {
		return nil // what there is of documents is of a cluster of long ago
	}
	return m.roster()
}

// roster is called with mu held.
func (m *Manager) roster() []Node {
	all := make([]Node, 0, len(m.nodes))
	for _, n := range m.nodes {
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b Node) int { return strings.Compare(a.Name+IDText(a.ID), b.Name+IDText(b.ID)) })
	return all
}

// OnNodes has f called with all nodes, now and when they have changed. It must not wait.
func (m *Manager) OnNodes(f func([]Node)) {
	m.mu.Lock()
	m.onNodes = append(m.onNodes, f)
	m.changed = true
	m.mu.Unlock()
	m.poke()
}

// save keeps what this node is after f has changed it.
func (m *Manager) save(f func(*identity)) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	m.mu.Lock()
	next := m.self
	next.replicas = m.replicas
	next.nodes = m.roster()
	m.mu.Unlock()
	f(&next)
	if err := next.write(m.opt.FS, m.opt.Dir); err != nil {
		return fmt.Errorf("%s: %w", FileName, err)
	}
	m.mu.Lock()
	m.self = next
	m.mu.Unlock()
	if next.member {
		m.cert.Store(next.tls())
	}
	return nil
}

// Start begins to take part, where this node is a member: it listens for other nodes.
func (m *Manager) Start() error {
	if m.Member() {
		if err := m.bind(); err != nil {
			return err
		}
		m.serve()
	}
	m.over.Go(m.run)
	m.over.Go(m.watchLeader)
	return nil
}

// Close ends all connections and waits for what uses them.
func (m *Manager) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.end()
	l := m.listener
	for c := range m.conns {
		_ = c.Close() // who has it is told by that
	}
	m.mu.Unlock()
	var err error
	if l != nil {
		err = l.Close()
	}
	m.over.Wait()
	return err
}

func (m *Manager) poke() {
	select {
	case m.again <- struct{}{}:
	default:
	}
}

// run is the manager's goroutine.
func (m *Manager) run() {
	tick := time.NewTicker(m.opt.Every)
	defer tick.Stop()
	for {
		select {
		case <-m.again:
			m.look()
		case <-tick.C:
			m.look()
			ctx, cancel := context.WithTimeout(m.ctx, askTimeout)
			m.work(ctx)
			cancel()
		case <-m.done:
			return
		}
	}
}

// look takes over what has changed: it tells whoever wants to know of nodes, what is wished, and ends connections of who is gone.
func (m *Manager) look() {
	m.mu.Lock()
	changed := m.changed
	m.changed = false
	all, tell := m.roster(), m.onNodes
	if !m.self.member {
		all = nil
	}
	wish := m.wished()
	wished := !sameWish(&wish, &m.wish)
	m.wish = wish
	var out []net.Conn
	for c, node := range m.conns {
		if m.gone[node].Version > 0 {
			out = append(out, c)
		}
	}
	m.mu.Unlock()
	for _, c := range out {
		_ = c.Close() // nothing that it says counts any more
	}
	if wished {
		m.opt.Wish(wish)
	}
	if !changed {
		return
	}
	for _, f := range tell {
		f(all)
	}
	if m.Member() {
		if err := m.save(func(*identity) {}); err != nil {
			m.opt.Logf("what is known of other nodes is not kept: %v", err)
		}
	}
}

// wished is who the groups' members shall be. It is called with mu held.
func (m *Manager) wished() (w cluster.Wish) {
	now := m.opt.Now()
	if !m.self.member {
		return w // what there is of documents is of a cluster of long ago
	}
	for id, n := range m.nodes {
		if n.Leaving {
			continue
		}
		w.Members = append(w.Members, id)
		if now.Before(n.idle) {
			w.Avoid = append(w.Avoid, id)
		}
	}
	slices.Sort(w.Members)
	slices.Sort(w.Avoid)
	if !m.place(&w) {
		return cluster.Wish{}
	}
	return w
}

// leads reports whether this node keeps the documents.
func (m *Manager) leads() bool { return m.opt.Leader() == m.id }

func hash(secret []byte) [sha256.Size]byte { return sha256.Sum256(secret) }

// checkAddresses looks at what a node says of itself. Where clients reach it may not be known yet.
func checkAddresses(nodes, clients string) *wire.Error {
	err := checkAddress(nodes)
	if err != nil {
		return &wire.Error{Code: wire.CodeBadRequest, Message: "cluster.advertise: " + err.Error()}
	}
	if clients != "" {
		err = checkAddress(clients)
	}
	if err != nil {
		return &wire.Error{Code: wire.CodeBadRequest, Message: "the address for clients: " + err.Error()}
	}
	return nil
}

// checkAddress wants host:port, with a host that others can use.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" || port == "0" || len(address) > 261 || strings.ContainsAny(address, ", \t\r\n\"") {
		return fmt.Errorf("%q is no address; want host:port such as 10.0.0.1:4569", address)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("%s is an address to listen at, and none to connect to; say with cluster.advertise where other nodes reach this one", address)
	}
	return nil
}
