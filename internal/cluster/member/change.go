package member

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
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
	m.mu.Lock()
	ca, member := m.ca, m.self.member
	m.mu.Unlock()
	if ca == nil {
		var err error
		if ca, err = newAuthority(m.opt.Now()); err != nil {
			return err
		}
	}
	if !member {
		// The listener first: what is wrong with its address is found out before anything is made.
		if err := m.bind(); err != nil {
			return err
		}
		if _, err := m.address(); err != nil {
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
	m.mu.Lock()
	ca, replicas, n := m.ca, m.replicas, m.nodes[m.self.id]
	if m.ca == nil {
		m.ca = ca
	}
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
	return m.putNode(Node{ID: m.self.id, Name: m.Name(), Address: address, Client: m.opt.Client, Joined: m.opt.Now().UTC()}, func(*Node) {})
}

// certify gives this node a certificate for a new key.
func (m *Manager) certify(ca *authority) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := ca.sign(m.self.id, &key.PublicKey, m.opt.Now())
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
		if n.ID == m.self.id {
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
func (m *Manager) makeIdle(name string) *answer {
	m.changing.Lock()
	defer m.changing.Unlock()
	n, err := m.find(name)
	if err != nil {
		return failed(err)
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
	if err := m.putNode(n, func(n *Node) { n.idle = m.opt.Now().UTC().Add(idleTime) }); err != nil {
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
	m.announce(ctx)
	if !m.leads() {
		return
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	m.finish(ctx)
	m.tidy()
}

// announce tells the others what this node is, where they do not know that, or where nobody leads here: then it may have been taken out.
func (m *Manager) announce(ctx context.Context) {
	address, err := m.address()
	if err != nil {
		m.opt.Logf("other nodes cannot reach this one: %v", err)
		return
	}
	name := m.Name()
	m.mu.Lock()
	n := m.nodes[m.self.id]
	right := n != nil && n.Name == name && n.Address == address && n.Client == m.opt.Client && m.replicas >= m.opt.Replicas
	m.mu.Unlock()
	if right && m.opt.Leader() != 0 {
		return
	}
	q := &message{Op: askAnnounce, Self: &selfMessage{ID: IDText(m.self.id), Name: name, Address: address, Client: m.opt.Client, Replicas: m.opt.Replicas}}
	if m.leads() {
		if err := m.carryOut(ctx, m.self.id, q).err(); err != nil {
			m.opt.Logf("what this node is now is not kept: %v", err)
		}
		return
	}
	m.everybody(ctx, q)
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
	if err := checkAddress(s.Address); err != nil {
		return failed(wire.Errorf(wire.CodeBadRequest, "cluster.advertise: %s", err.Error()))
	}
	m.mu.Lock()
	replicas := m.replicas
	m.mu.Unlock()
	if s.Replicas > replicas && goodReplicas(s.Replicas) {
		if err := m.opt.Put(settingsName, encode(settingsDocument{documentVersion, s.Replicas, m.opt.Groups})); err != nil {
			return failure(err)
		}
	}
	if n.Name == name && n.Address == s.Address && n.Client == s.Client {
		return &answer{}
	}
	if err := m.putNode(n, func(n *Node) { n.Name, n.Address, n.Client = name, s.Address, s.Client }); err != nil {
		return failure(err)
	}
	m.opt.Logf("node %s is at %s now, for clients at %s", name, s.Address, s.Client)
	return &answer{}
}

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
			if g.Leading && g.Group < len(free) && !slices.Contains(g.Members(), node) {
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
