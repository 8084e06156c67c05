package member

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"crypto/ecdsa"
)

// The names of the documents.
const (
	Prefix        = "cluster/" // of all of them
	caName        = Prefix + "ca"
	settingsName  = Prefix + "settings"
	placementName = Prefix + "placement"
	tablesName    = Prefix + "tables"
	nodePrefix    = Prefix + "node/"
	gonePrefix    = Prefix + "gone/"
	tokenPrefix   = Prefix + "token/"
)

// documentVersion is in every document; a later version of it is not read.
const documentVersion = 1

// A caDocument holds the authority. Every node must be able to sign, as any of them may be the one that is left.
type caDocument struct {
	Version int    `json:"version"`
	Cert    []byte `json:"cert"`
	Key     []byte `json:"key"`
}

// A settingsDocument is what all nodes agree on.
type settingsDocument struct {
	Version  int `json:"version"`
	Replicas int `json:"replicas"`
	Groups   int `json:"groups"`
}

// A tablesDocument names the database in which all nodes have queues.
type tablesDocument struct {
	Version int    `json:"version"`
	Tables  string `json:"tables"`
}

// A nodeDocument is a node as all know it. Of two of one node that with the greater revision is newer.
type nodeDocument struct {
	Version  int       `json:"version"`
	Revision int       `json:"revision"`
	Name     string    `json:"name"`
	Address  string    `json:"address"`
	Client   string    `json:"client"`
	Joined   time.Time `json:"joined"`
	Leaving  bool      `json:"leaving,omitempty"`
	Replicas int       `json:"replicas,omitempty"` // that its configuration asks for
	Idle     time.Time `json:"idle,omitzero"`      // until then it is to lead nothing
	Process  string    `json:"process,omitempty"`  // that was asked to: the next one may lead again
}

// A tokenDocument is a join token as it is kept: not the token, but its SHA-256.
type tokenDocument struct {
	Version int       `json:"version"`
	Hash    []byte    `json:"hash"`
	Expires time.Time `json:"expires"`
	Node    string    `json:"node,omitempty"` // who has joined with it
}

// A goneDocument is a node that was taken out.
type goneDocument struct {
	Version int       `json:"version"`
	Name    string    `json:"name"`
	At      time.Time `json:"at"`
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // structs of texts, bytes, numbers and times, which can be written
	}
	return data
}

// decode reads a document. Errors do not repeat what it holds.
func decode(data []byte, v any, version *int) error {
	if err := json.Unmarshal(data, v); err != nil {
		return errors.New("it is no JSON of the form that is wanted")
	}
	if *version != documentVersion {
		return fmt.Errorf("it has version %d, and this program knows %d", *version, documentVersion)
	}
	return nil
}

func parseAuthority(data []byte) (*authority, error) {
	var d caDocument
	if err := decode(data, &d, &d.Version); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(d.Cert)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(d.Key)
	if err != nil {
		return nil, errors.New("the key cannot be read")
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok || !k.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the key is not the certificate's")
	}
	return &authority{cert, k}, nil
}

func (a *authority) document() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, err
	}
	return encode(caDocument{documentVersion, a.cert.Raw, key}), nil
}

// A joinToken is a token as this node knows it.
type joinToken struct {
	hash    [sha256.Size]byte
	expires time.Time
	node    uint64 // who has joined with it; 0: nobody
}

func tokenName(hash [sha256.Size]byte) string { return fmt.Sprintf("%s%x", tokenPrefix, hash[:8]) }

func (t *joinToken) document() []byte {
	d := tokenDocument{Version: documentVersion, Hash: t.hash[:], Expires: t.expires}
	if t.node != 0 {
		d.Node = IDText(t.node)
	}
	return encode(d)
}

func parseTokenDocument(data []byte) (*joinToken, error) {
	var d tokenDocument
	if err := decode(data, &d, &d.Version); err != nil {
		return nil, err
	}
	if len(d.Hash) != sha256.Size {
		return nil, errors.New("its hash is of another length than this program's")
	}
	t := &joinToken{hash: [sha256.Size]byte(d.Hash), expires: d.Expires}
	var err error
	if d.Node != "" {
		t.node, err = parseID(d.Node)
	}
	return t, err
}

// Changed takes over a document that has been kept; without data it is gone. It does not wait.
func (m *Manager) Changed(name string, data []byte) {
	if err := m.change(name, data); err != nil {
		m.opt.Logf("document %s: %v", name, err)
		return
	}
	m.poke()
}

func (m *Manager) change(name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch rest, _ := strings.CutPrefix(name, Prefix); {
	case name == caName:
		if len(data) == 0 {
			return nil
		}
		a, err := parseAuthority(data)
		if err == nil {
			m.ca = a
		}
		return err
	case name == settingsName:
		if len(data) == 0 {
			return nil
		}
		var d settingsDocument
		err := decode(data, &d, &d.Version)
		if err == nil {
			m.replicas, m.changed, m.founded = d.Replicas, true, true
		}
		return err
	case name == tablesName:
		d := tablesDocument{Version: documentVersion}
		if len(data) > 0 {
			if err := decode(data, &d, &d.Version); err != nil {
				return err
			}
		}
		m.tables = d.Tables
		return nil
	case name == placementName:
		if len(data) == 0 {
			m.placed = placing{}
			return nil
		}
		p, err := parsePlacing(data)
		if err == nil {
			m.placed = p
		}
		return err
	case strings.HasPrefix(rest, "node/"):
		return m.changeNode(strings.TrimPrefix(rest, "node/"), data)
	case strings.HasPrefix(rest, "gone/"):
		return m.changeGone(strings.TrimPrefix(rest, "gone/"), data)
	case strings.HasPrefix(rest, "token/"):
		if len(data) == 0 {
			delete(m.tokens, name)
			return nil
		}
		t, err := parseTokenDocument(data)
		if err == nil {
			m.tokens[name] = t
		}
		return err
	}
	return nil // of a newer program
}

// changeNode is called with mu held.
func (m *Manager) changeNode(text string, data []byte) error {
	id, err := parseID(text)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		delete(m.nodes, id)
		m.changed = true
		return nil
	}
	var d nodeDocument
	if err := decode(data, &d, &d.Version); err != nil {
		return err
	}
	if old := m.nodes[id]; old != nil && old.revision > d.Revision {
		return nil // this node's documents are behind what it knew before its restart
	}
	n := &Node{ID: id, Name: d.Name, Address: d.Address, Client: d.Client, Joined: d.Joined, Leaving: d.Leaving, replicas: d.Replicas, idle: d.Idle, process: d.Process, revision: d.Revision}
	m.nodes[id] = n
	m.changed = true
	return nil
}

func (m *Manager) changeGone(text string, data []byte) error {
	id, err := parseID(text)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		delete(m.gone, id)
		return nil
	}
	var d goneDocument
	if err := decode(data, &d, &d.Version); err != nil {
		return err
	}
	m.gone[id] = d
	delete(m.told, id) // whoever told of it had not heard
	return nil
}

func (n *Node) document() []byte {
	return encode(nodeDocument{documentVersion, n.revision, n.Name, n.Address, n.Client, n.Joined, n.Leaving, n.replicas, n.idle, n.process})
}
