package member

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gmq/gmq/wire"
)

// A joinRequest is what a node says that wants to be a member.
type joinRequest struct {
	Secret  []byte `json:"secret"`
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Address string `json:"address"`
	Client  string `json:"client"`
	CSR     []byte `json:"csr"`
	Groups  int    `json:"groups"`
	Version string `json:"version,omitempty"`
	Tables  string `json:"tables,omitempty"` // the database in which it has queues
}

// A joinAnswer is what it needs to be one.
type joinAnswer struct {
	Name     string         `json:"name"`
	Cert     []byte         `json:"cert"`
	CA       []byte         `json:"ca"`
	Replicas int            `json:"replicas"`
	Nodes    []identityNode `json:"nodes"`
}

// verify finds out whether who answers is a node of the cluster that the token is of: its certificate was signed by the authority with
// that fingerprint, which it shows as well.
func (t *Token) verify(st tls.ConnectionState, now time.Time) error {
	for _, c := range st.PeerCertificates[1:] {
		print := sha256.Sum256(c.Raw)
		if subtle.ConstantTimeCompare(print[:], t.Fingerprint[:]) != 1 {
			continue
		}
		leaf := st.PeerCertificates[0]
		if _, err := nodeOf(leaf); err != nil {
			return err
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: (&authority{cert: c}).pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		return err
	}
	return errOther
}

var errOther = errors.New("who answers there is not of the cluster that the join token is of")

// Wants notes that this node is to join, before anything is made in its data directory. Used says that something is there already, which
// would be lost if another cluster's took its place: then it is refused. A member needs no such thing.
func (m *Manager) Wants(used bool) error {
	m.mu.Lock()
	member, joining := m.self.member, m.self.joining
	m.mu.Unlock()
	switch {
	case member:
		return nil
	case used:
		return errors.New("the data directory is a server's that is no member, and joining would take the place of what is in it; " +
			"join with an empty directory, or make this server the first node: gmq cluster token")
	case joining:
		return nil
	}
	return m.save(func(i *identity) { i.joining = true })
}

// Waits reports whether this node was to join and has not been let in: nothing has been stored in its directory, and it is no server's of its own.
func (m *Manager) Waits() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self.joining && !m.self.member
}

// Join makes this node a member of the cluster that the token is of. Where it is a member already nothing is done. It goes on trying while the
// cluster cannot let it in just now, until ctx ends. An empty data directory is the caller's business.
func (m *Manager) Join(ctx context.Context, token string) error {
	if m.Member() {
		m.opt.Logf("this is node %s of a cluster already; the join token counts for nothing", m.Name())
		return nil
	}
	t, err := ParseToken(token)
	if err != nil {
		return err
	}
	if err := m.bind(); err != nil {
		return err
	}
	address, err := m.address()
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := newCSR(key)
	if err != nil {
		return err
	}
	tables, err := m.opt.Tables(ctx)
	if err != nil {
		return fmt.Errorf("storage.mysql: %w", err)
	}
	q := &message{Op: askJoin, Join: &joinRequest{
		Secret: t.Secret, ID: IDText(m.id), Name: m.opt.Name, Address: address, Client: m.clients(), CSR: csr, Groups: m.opt.Groups, Version: m.opt.Version, Tables: tables,
	}}
	var last error
	for {
		a, err := m.knock(ctx, t, q)
		switch {
		case err == nil && a.Code == "" && a.Join != nil:
			return m.joined(t, key, a.Join)
		case err == nil && a.Code != wire.CodeNoQuorum && a.Code != wire.CodeUnknownOutcome:
			return fmt.Errorf("the cluster does not let this node in: %s", a.Error)
		case err == nil:
			err = errors.New(a.Error)
		case errors.Is(err, errOther):
			return err
		}
		if last == nil || !over(ctx) { // what the end of time breaks off says nothing about why
			last = err
			m.opt.Logf("not joined yet: %v", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not joined: %w", last)
		case <-time.After(m.opt.Every):
		}
	}
}

// over says whether ctx's time has come. A dial counts by the clock and may end a moment before ctx does.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(end)
}

// knock asks at one address after the other.
func (m *Manager) knock(ctx context.Context, t *Token, q *message) (*answer, error) {
	var errs []error
	for _, address := range t.Addresses {
		c, err := m.dialJoin(ctx, address, t)
		if err == nil {
			a := &answer{}
			if _, err = c.Write(append(encode(q), '\n')); err == nil {
				err = readLine(c, a)
			}
			if _ = c.Close(); err == nil { // the answer is here
				return a, nil
			}
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// joined keeps what the cluster has given.
func (m *Manager) joined(t *Token, key *ecdsa.PrivateKey, j *joinAnswer) error {
	ca, err := x509.ParseCertificate(j.CA)
	if err != nil || sha256.Sum256(j.CA) != t.Fingerprint {
		return errors.New("the cluster has answered with another authority than the token's")
	}
	cert, err := x509.ParseCertificate(j.Cert)
	if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		return errors.New("the cluster has answered with a certificate for somebody else")
	}
	m.mu.Lock()
	m.ca, m.replicas = &authority{cert: ca}, j.Replicas
	for _, n := range j.Nodes {
		id, err := parseID(n.ID)
		if err != nil {
			m.mu.Unlock()
			return err
		}
		m.nodes[id] = &Node{ID: id, Name: n.Name, Address: n.Address, Client: n.Client, Leaving: n.Leaving, revision: n.Revision}
	}
	m.changed, m.arriving = true, true
	m.mu.Unlock()
	return m.save(func(i *identity) {
		i.name, i.member, i.joined, i.joining, i.ca, i.cert, i.key = j.Name, true, true, false, ca, j.Cert, key
	})
}

// welcomeJoin lets somebody in who has a token, or says why not. Whoever leads decides.
func (m *Manager) welcomeJoin(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(strangerTime)) // without one the connection fails by itself
	var q message
	if err := readLine(c, &q); err != nil || q.Join == nil || q.Op != askJoin {
		m.refused(c, errors.New("it does not say that it wants to join"))
		return
	}
	if err := m.checkSecret(q.Join); err != nil && (m.leads() || m.knows(q.Join)) { // what is not worth another node's time
		m.refused(c, err)
		reply(c, failed(err))
		return
	}
	_ = c.SetDeadline(time.Now().Add(joinTimeout))
	ctx, cancel := context.WithTimeout(m.ctx, askTimeout)
	defer cancel()
	reply(c, m.atLeader(ctx, &message{Op: askJoin, Join: q.Join}))
}

// checkSecret says whether a request to join has a token that holds, as far as this node knows.
func (m *Manager) checkSecret(q *joinRequest) *wire.Error {
	h := hash(q.Secret)
	m.mu.Lock()
	t := m.tokens[tokenName(h)]
	m.mu.Unlock()
	switch {
	case t == nil || subtle.ConstantTimeCompare(t.hash[:], h[:]) != 1:
		return wire.Errorf(wire.CodeUnauthenticated, "the join token is not one of this cluster's, or it is over; gmq cluster token makes another")
	case !m.opt.Now().Before(t.expires):
		return wire.Errorf(wire.CodeUnauthenticated, "the join token ended at %s; gmq cluster token makes another", t.expires.Format(time.RFC3339))
	case t.node != 0 && IDText(t.node) != q.ID:
		return wire.Errorf(wire.CodeUnauthenticated, "another node has joined with this token; each needs its own: gmq cluster token")
	}
	return nil
}

// knows reports whether this node has heard of a token. The leader may have made it just now.
func (m *Manager) knows(q *joinRequest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tokens[tokenName(hash(q.Secret))] != nil
}

// letIn makes a node a member. Whoever asks again gets the same, with a new certificate.
func (m *Manager) letIn(q *joinRequest) *answer {
	m.changing.Lock()
	defer m.changing.Unlock()
	if q == nil {
		return failed(wire.Errorf(wire.CodeBadRequest, "it says nothing about itself"))
	}
	if err := m.checkSecret(q); err != nil {
		return failed(err)
	}
	id, err := parseID(q.ID)
	if err != nil {
		return failed(&wire.Error{Code: wire.CodeBadRequest, Message: err.Error()})
	}
	public, err := parseCSR(q.CSR)
	if err != nil {
		return failed(&wire.Error{Code: wire.CodeBadRequest, Message: err.Error()})
	}
	if err := m.nameTables(); err != nil {
		return failure(err)
	}
	n, refusal := m.roomFor(id, q)
	if refusal != nil {
		return failed(refusal)
	}
	h := hash(q.Secret)
	m.mu.Lock()
	t := *m.tokens[tokenName(h)]
	ca := m.ca
	m.mu.Unlock()
	t.node = id
	if err := m.opt.Begin(); err != nil {
		return failure(err)
	}
	if err := m.opt.Put(tokenName(h), t.document()); err != nil {
		return failure(err)
	}
	if err := m.putNode(n, func(*Node) {}); err != nil {
		return failure(err)
	}
	cert, err := ca.sign(id, public, m.opt.Now())
	if err != nil {
		return failure(err)
	}
	m.opt.Logf("node %s (%s, %s) joins", n.Name, IDText(id), n.Address)
	a := &joinAnswer{Name: n.Name, Cert: cert, CA: ca.cert.Raw}
	m.mu.Lock()
	a.Replicas = m.replicas
	for _, n := range m.roster() {
		a.Nodes = append(a.Nodes, identityNode{IDText(n.ID), n.revision, n.Name, n.Address, n.Client, n.Leaving})
	}
	m.mu.Unlock()
	return &answer{Join: a}
}

// roomFor finds out whether there is a place for a node, and what it is called there.
func (m *Manager) roomFor(id uint64, q *joinRequest) (n Node, _ *wire.Error) {
	if q.Groups != m.opt.Groups {
		return n, wire.Errorf(wire.CodeBadRequest, "its program has %d shards, and this cluster's %d: they are of different versions", q.Groups, m.opt.Groups)
	}
	if err := m.sameTables(q.Tables); err != nil {
		return n, err
	}
	if err := checkAddresses(q.Address, q.Client); err != nil {
		return n, err
	}
	if q.Name != "" && !ValidName(q.Name) {
		return n, badName(q.Name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone[id].Version > 0 {
		return n, wire.Errorf(wire.CodeBadRequest, "it was taken out of this cluster; start it with an empty data directory")
	}
	there, names := 0, map[string]bool{}
	for _, d := range m.gone { // who reads logs should not take one for another
		names[d.Name] = q.Name != d.Name
	}
	for _, other := range m.nodes {
		if other.ID == id {
			continue
		}
		names[other.Name] = true
		if other.Address == q.Address {
			return n, wire.Errorf(wire.CodeExists, "node %s is at %s already; take it out first if it is gone for good: gmq cluster remove %s", other.Name, q.Address, other.Name)
		}
		if !other.Leaving {
			there++
		}
	}
	if names[q.Name] {
		return n, wire.Errorf(wire.CodeExists, "there is a node %s already; choose another name (cluster.node), or take it out first: gmq cluster remove %s", q.Name, q.Name)
	}
	if there >= mostNodes {
		return n, wire.Errorf(wire.CodeBadRequest, "the cluster has %d nodes, and may have %d; take one out first", there, mostNodes)
	}
	n = Node{ID: id, Name: q.Name, Address: q.Address, Client: q.Client, Joined: m.opt.Now().UTC()}
	if old := m.nodes[id]; old != nil {
		n.Joined, n.revision = old.Joined, old.revision
		if n.Name == "" {
			n.Name = old.Name
		}
	}
	for k := 1; n.Name == ""; k++ {
		if name := fmt.Sprint("n", k); !names[name] {
			n.Name = name
		}
	}
	return n, nil
}

// sameTables refuses a node that does not have the queues of all nodes: it could not lead where they are, or would have others.
func (m *Manager) sameTables(tables string) *wire.Error {
	switch ours, _ := m.Tables(); {
	case ours == tables:
		return nil
	case ours == "":
		return wire.Errorf(wire.CodeBadRequest, "it has storage.mysql, and this cluster was begun without; leave it out")
	case tables == "":
		return wire.Errorf(wire.CodeBadRequest, "this cluster has queues in MySQL, and every node must reach them: set storage.mysql as on the other nodes")
	}
	return wire.Errorf(wire.CodeBadRequest, "this cluster has queues in MySQL, and storage.mysql.dsn of this node leads to another database; set it as on the other nodes")
}

// MaxName is how long a node's name may be.
const MaxName = 63

// ValidName reports whether a node can be called that.
func ValidName(s string) bool {
	return len(s) <= MaxName && wire.ValidUserName([]byte(s)) && s[0] != '-'
}

func badName(s string) *wire.Error {
	return wire.Errorf(wire.CodeBadRequest, "%q is no name of a node; want 1 to %d of A-Z a-z 0-9 . _ - @ : / +", s, MaxName)
}
