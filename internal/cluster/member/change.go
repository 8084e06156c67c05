package member

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"maps"
	"slices"
	"time"

	"github.com/gmq/gmq/wire"
)

const (
	// TokenLife is how long a join token holds where nothing else is said; a longer life than mostTokenLife is not given.
	TokenLife     = time.Hour
	mostTokenLife = 7 * 24 * time.Hour
	// idleTime is how long a node leads nothing that was asked to hand over.
	idleTime = 10 * time.Minute
	// yieldTime is the same of one that stops.
	yieldTime = time.Minute
	// mostGone is how many nodes that were taken out are remembered.
	mostGone = 100
)

type tokenAnswer struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// found makes a cluster of a node alone: an authority, a certificate, the listener, and the documents that say so. It is called with
// changing held. What was made before an interruption stays.
func (m *Manager) found() error {
	if !m.Member() {
		// The listener first: what is wrong with its address is found out before anything is made.
		if err := m.bind(); err != nil {
			return err
		}
		if _, err := m.address(); err != nil {
			return err
		}
		if err := m.forget(); err != nil {
			return err
		}
		ca, err := newAuthority(m.opt.Now())
		if err != nil {
			return err
		}
		doc, err := ca.document()
		if err != nil {
			return err
		}
		if err := m.opt.Put(caName, doc); err != nil {
			return err
		}
		if err := m.certify(ca); err != nil {
			return err
		}
	}
	if err := m.nameTables(); err != nil {
		return err
	}
	m.mu.Lock()
	replicas, n := m.replicas, m.nodes[m.id]
	m.mu.Unlock()
	m.serve()
	if replicas == 0 {
		replicas = m.opt.Replicas
		if replicas == 0 {
			replicas = DefaultReplicas
		}
		if err := m.opt.Put(settingsName, encode(settingsDocument{documentVersion, replicas, m.opt.Groups})); err != nil {
			return err
		}
	}
	if n != nil {
		return nil
	}
	address, err := m.address()
	if err != nil {
		return err
	}
	return m.putNode(Node{ID: m.id, Name: m.Name(), Address: address, Client: m.clients(), Joined: m.opt.Now().UTC(), replicas: m.opt.Replicas}, func(*Node) {})
}

// nameTables keeps which database has queues of the cluster's, as long as it has one node: what that one has. It is called with changing held.
func (m *Manager) nameTables() error {
	m.mu.Lock()
	alone, old := len(m.nodes) <= 1, m.tables
	m.mu.Unlock()
	if !alone {
		return nil
	}
	tables, err := m.opt.Tables(m.ctx)
	if err != nil {
		return wire.Errorf(wire.CodeOverloaded, "the database of the queues in MySQL cannot be asked for its name: %v", err)
	}
	if tables == old {
		return nil
	}
	return m.opt.Put(tablesName, encode(tablesDocument{documentVersion, tables}))
}

// forget takes back what is left of a cluster that this node was of once, or that was never finished.
func (m *Manager) forget() error {
	m.mu.Lock()
	names := slices.Collect(maps.Keys(m.tokens))
	for id := range m.nodes {
		names = append(names, nodePrefix+IDText(id))
	}
	for id := range m.gone {
		names = append(names, gonePrefix+IDText(id))
	}
	if m.ca != nil {
		names = append(names, caName)
	}
	if m.replicas != 0 {
		names = append(names, settingsName)
	}
	if m.placed.plan != nil {
		names = append(names, placementName)
	}
	if m.tables != "" {
		names = append(names, tablesName)
	}
	m.ca, m.replicas, m.tables, m.founded, m.placed = nil, 0, "", false, placing{}
	m.mu.Unlock()
	for _, name := range names {
		if err := m.opt.Put(name, nil); err != nil {
			return err
		}
	}
	return nil
}

// certify gives this node a certificate for a new key.
func (m *Manager) certify(ca *authority) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := ca.sign(m.id, &key.PublicKey, m.opt.Now())
	if err != nil {
		return err
	}
	name := m.Name()
	return m.save(func(i *identity) {
		i.name, i.member, i.ca, i.cert, i.key = name, true, ca.cert, cert, key
	})
}

// renew gives this node another certificate when a third of the old one's life is left. Each node signs its own: the authority's key is
// among the documents that all have.
func (m *Manager) renew() {
	m.mu.Lock()
	ca, member, der := m.ca, m.self.member, m.self.cert
	m.mu.Unlock()
	if !member || ca == nil || ca.key == nil {
		return
	}
	cert, err := x509.ParseCertificate(der)
	if err == nil && m.opt.Now().Before(cert.NotAfter.Add(-nodeLife/3)) && !m.opt.Now().Before(cert.NotBefore) {
		return
	}
	if err := m.certify(ca); err != nil {
		m.opt.Logf("this node's certificate is not renewed: %v", err)
		return
	}
	m.opt.Logf("this node's certificate is renewed")
}

// makeToken makes a join token, and a cluster where there is none.
func (m *Manager) makeToken(life string) *answer {
	m.changing.Lock()
	defer m.changing.Unlock()
	lasts := TokenLife
	if life != "" {
		var err error
		if lasts, err = time.ParseDuration(life); err != nil || lasts <= 0 || lasts > mostTokenLife {
			return failed(wire.Errorf(wire.CodeBadRequest, "ttl of %s is not between 1s and %s", life, mostTokenLife))
		}
	}
	if err := m.found(); err != nil {
		return failure(err)
	}
	secret := newSecret()
	t := &joinToken{hash: hash(secret), expires: m.opt.Now().UTC().Add(lasts).Truncate(time.Second)}
	if err := m.opt.Put(tokenName(t.hash), t.document()); err != nil {
		return failure(err)
	}
	m.mu.Lock()
	out := Token{Secret: secret, Fingerprint: m.ca.fingerprint()}
	for _, n := range m.roster() {
		if n.ID == m.id {
			out.Addresses = slices.Insert(out.Addresses, 0, n.Address)
		} else if len(out.Addresses) < 5 && !n.Leaving {
			out.Addresses = append(out.Addresses, n.Address)
		}
	}
	m.mu.Unlock()
	return &answer{Token: &tokenAnswer{out.String(), t.expires}}
}

// takeOut begins to take a node out. What is left to do is done by and by (finish).
func (m *Manager) takeOut(ctx context.Context, name string) *answer {
	m.changing.Lock()
	defer m.changing.Unlock()
	n, err := m.find(name)
	if err != nil {
		return failed(err)
	}
	if n.Leaving {
		return &answer{Name: n.Name}
	}
	var left []uint64
	for _, other := range m.Nodes() {
		if other.ID != n.ID && !other.Leaving {
			left = append(left, other.ID)
		}
	}
	if len(left) == 0 {
		return failed(wire.Errorf(wire.CodeBadRequest, "%s is the last node and cannot be taken out", n.Name))
	}
	there := m.statuses(ctx)
	reached := 0
	for _, id := range left {
		if there[id] != nil {
			reached++
		}
	}
	if reached <= len(left)/2 {
		return failed(wire.Errorf(wire.CodeNoQuorum, "of the %d nodes that would be left %d can be reached, which is no majority: they could decide nothing; start the others first", len(left), reached))
	}
	if err := m.putNode(n, func(n *Node) { n.Leaving = true }); err != nil {
		return failure(err)
	}
	m.opt.Logf("node %s is taken out", n.Name)
	return &answer{Name: n.Name}
}

// makeIdle has a node lead nothing for a while.
func (m *Manager) makeIdle(ctx context.Context, name, life string) *answer {
	lasts, err := time.ParseDuration(life)
	if err != nil || lasts <= 0 || lasts > idleTime {
		lasts = idleTime
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	n, refusal := m.find(name)
	if refusal != nil {
		return failed(refusal)
	}
	others := 0
	for _, other := range m.Nodes() {
		if other.ID != n.ID && !other.Leaving && !m.opt.Now().Before(other.idle) {
			others++
		}
	}
	if others == 0 {
		return failed(wire.Errorf(wire.CodeBadRequest, "there is no other node than %s that could lead", n.Name))
	}
	process := ""
	if a := m.statuses(ctx)[n.ID]; a != nil {
		process = a.Life
	}
	if err := m.putNode(n, func(n *Node) { n.idle, n.process = m.opt.Now().UTC().Add(lasts), process }); err != nil {
		return failure(err)
	}
	return &answer{Name: n.Name}
}

// work does what is to be done from time to time.
func (m *Manager) work(ctx context.Context) {
	if !m.Member() {
		return
	}
	m.renew()
	m.arrive()
	m.announce(ctx)
	if !m.leads() {
		return
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	m.finish(ctx)
	m.arrange()
	m.tidy()
}

// arrive tells, once, that a node that has joined is in all groups what it is to be there.
func (m *Manager) arrive() {
	m.mu.Lock()
	awaited := m.arriving
	m.mu.Unlock()
	if !awaited {
		return
	}
	if groups := m.opt.Status(); len(groups) != m.opt.Groups || !m.whole(m.id, groups) {
		return
	}
	m.mu.Lock()
	m.arriving = false
	m.mu.Unlock()
	m.opt.Logf("this node, %s, has what it is to have, and counts from now on", m.Name())
}

// announce tells the others what this node is: once it has begun, and where they do not know that, or where nobody leads here, or it is to go: then it may have
// been taken out, which nobody may have told it. Their answers tell it of nodes of which it has not heard, so it asks where one of those was at its door.
func (m *Manager) announce(ctx context.Context) {
	address, err := m.address()
	if err != nil {
		m.opt.Logf("other nodes cannot reach this one: %v", err)
		return
	}
	name := m.Name()
	m.mu.Lock()
	n := m.nodes[m.id]
	begins := !m.begun
	asks := m.stranger
	m.stranger = false
	right := !begins && !asks && n != nil && !n.Leaving && n.Address == address && n.Client == m.client && n.replicas == m.opt.Replicas
	m.mu.Unlock()
	if right && m.opt.Leader() != 0 {
		return
	}
	q := &message{Op: askAnnounce, Self: &selfMessage{ID: IDText(m.id), Name: name, Address: address, Client: m.clients(), Replicas: m.opt.Replicas, Process: m.life}}
	if m.leads() {
		if err := m.carryOut(ctx, m.id, q).err(); err != nil {
			m.opt.Logf("what this node is now is not kept: %v", err)
			return
		}
		if begins {
			m.tell(q)
		}
		m.begin()
		return
	}
	for _, a := range m.everybody(ctx, q) {
		m.hearOf(a.Others)
		if !a.Other && a.Code == "" {
			m.begin()
		}
	}
}

// tell tells each other node, until it has heard it. Who does not vote was not asked who is to lead: if this node is at another address than before,
// what it gets from it does not say where the answers go.
func (m *Manager) tell(q *message) {
	for _, n := range m.Nodes() {
		if n.ID == m.id {
			continue
		}
		m.over.Go(func() {
			tick := time.NewTicker(m.opt.Every)
			defer tick.Stop()
			for {
				if _, err := m.ask(m.ctx, n.ID, q); err == nil {
					return
				}
				select {
				case <-tick.C:
				case <-m.done:
					return
				}
				if _, gone := m.find(IDText(n.ID)); gone != nil {
					return
				}
			}
		})
	}
}

// begin notes that the others know that this process has begun.
func (m *Manager) begin() {
	m.mu.Lock()
	m.begun = true
	m.mu.Unlock()
}

// Yield has this node lead nothing for a minute: it is about to stop. Where nobody can be told nothing is done.
func (m *Manager) Yield(ctx context.Context) {
	if m.Member() {
		m.atLeader(ctx, &message{Op: askIdle, Name: IDText(m.id), Life: yieldTime.String()})
	}
}

// announced keeps what a node says of itself.
func (m *Manager) announced(s *selfMessage) *answer {
	m.changing.Lock()
	defer m.changing.Unlock()
	n, err := m.find(s.ID)
	if err != nil {
		return failed(err)
	}
	name := s.Name
	if other, err := m.find(name); !ValidName(name) || err == nil && other.ID != n.ID {
		m.opt.Logf("node %s wants to be called %q, which it cannot be: another one is, or it is no name", n.Name, name)
		name = n.Name
	}
	if err := checkAddresses(s.Address, s.Client); err != nil {
		return failed(err)
	}
	if err := m.agree(n.ID, s.Replicas); err != nil {
		return failure(err)
	}
	idle := n.idle
	if n.process != s.Process {
		idle = time.Time{}
	}
	if n.Name == name && n.Address == s.Address && n.Client == s.Client && n.replicas == s.Replicas && n.idle.Equal(idle) {
		return &answer{}
	}
	if err := m.putNode(n, func(n *Node) {
		n.Name, n.Address, n.Client, n.replicas, n.idle = name, s.Address, s.Client, s.Replicas, idle
	}); err != nil {
		return failure(err)
	}
	m.opt.Logf("node %s is at %s now, for clients at %s", name, s.Address, s.Client)
	return &answer{}
}

// goodReplicas reports whether groups can have so many replicas: more of an even number survive no more.
func goodReplicas(n int) bool { return n == 1 || n == 3 || n == 5 }

// finish takes those out for good that no group has any more. It is called with changing held.
func (m *Manager) finish(ctx context.Context) {
	var leaving []Node
	for _, n := range m.Nodes() {
		if n.Leaving {
			leaving = append(leaving, n)
		}
	}
	if len(leaving) == 0 {
		return
	}
	there := m.statuses(ctx)
	for _, n := range leaving {
		if !m.free(n.ID, there) {
			continue
		}
		err := m.opt.Put(gonePrefix+IDText(n.ID), encode(goneDocument{documentVersion, n.Name, m.opt.Now().UTC()}))
		if err == nil {
			err = m.opt.Put(nodePrefix+IDText(n.ID), nil)
		}
		if err != nil {
			m.opt.Logf("node %s is not taken out yet: %v", n.Name, err)
			return
		}
		m.opt.Logf("node %s is taken out", n.Name)
	}
}

// free reports whether no group has a node as a member. Only who leads a group can tell.
func (m *Manager) free(node uint64, there map[uint64]*answer) bool {
	free := make([]bool, m.opt.Groups)
	for _, a := range there {
		for _, g := range a.Groups {
			if g.Leading && g.Sealed && g.Group < len(free) && !slices.Contains(g.Members(), node) {
				free[g.Group] = true
			}
		}
	}
	return !slices.Contains(free, false)
}

// tidy forgets tokens that are over, and who was taken out long ago. It is called with changing held.
func (m *Manager) tidy() {
	now := m.opt.Now()
	m.mu.Lock()
	var old []string
	for name, t := range m.tokens {
		if now.Sub(t.expires) > TokenLife {
			old = append(old, name)
		}
	}
	var gone []uint64
	for id := range m.gone {
		gone = append(gone, id)
	}
	slices.SortFunc(gone, func(a, b uint64) int { return m.gone[a].At.Compare(m.gone[b].At) })
	m.mu.Unlock()
	for len(gone) > mostGone {
		old, gone = append(old, gonePrefix+IDText(gone[0])), gone[1:]
	}
	for _, name := range old {
		if m.opt.Put(name, nil) != nil {
			return // later
		}
	}
}
