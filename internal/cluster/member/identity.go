package member

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/gmq/gmq/internal/vfs"
)

// FileName is the file in the data directory that holds what this node is, its private key included.
const FileName = "cluster.json"

// An identity is what a node knows of itself and of its cluster before it has read anything else.
type identity struct {
	id       uint64
	boot     uint64 // of the life that wrote it last
	name     string
	member   bool // of a cluster, maybe one of which it is the only node
	joined   bool // that others had begun
	joining  bool // it wants to: what is in the data directory is nobody's yet
	removed  bool // it was taken out
	replicas int
	ca       *x509.Certificate
	cert     []byte // DER
	key      *ecdsa.PrivateKey
	nodes    []Node
}

type identityFile struct {
	Version  int            `json:"version"`
	ID       string         `json:"id"`
	Boot     uint64         `json:"boot,omitempty"`
	Name     string         `json:"name,omitempty"`
	Member   bool           `json:"member,omitempty"`
	Joined   bool           `json:"joined,omitempty"`
	Joining  bool           `json:"joining,omitempty"`
	Removed  bool           `json:"removed,omitempty"`
	Replicas int            `json:"replicas,omitempty"`
	CA       []byte         `json:"ca,omitempty"`
	Cert     []byte         `json:"cert,omitempty"`
	Key      []byte         `json:"key,omitempty"`
	Nodes    []identityNode `json:"nodes,omitempty"`
}

type identityNode struct {
	ID       string `json:"id"`
	Revision int    `json:"revision"`
	Name     string `json:"name"`
	Address  string `json:"address"`
	Client   string `json:"client"`
	Leaving  bool   `json:"leaving,omitempty"`
}

// newID is never zero, and has 63 bits: what carries it keeps one for itself.
func newID() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if id := binary.BigEndian.Uint64(b[:]) >> 1; id != 0 {
			return id
		}
	}
}

// readIdentity reads the file; where there is none, this is a new node.
func readIdentity(fsys vfs.FS, dir string) (*identity, bool, error) {
	name := filepath.Join(dir, FileName)
	size, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &identity{id: newID()}, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, false, err
	}
	data := make([]byte, size)
	_, err = f.ReadAt(data, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, false, err
	}
	i, err := parseIdentity(data)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", name, err)
	}
	return i, false, nil
}

func parseIdentity(data []byte) (*identity, error) {
	var d identityFile
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, errors.New("it is no JSON of the form that is wanted")
	}
	if d.Version != documentVersion {
		return nil, fmt.Errorf("it has version %d, and this program knows %d", d.Version, documentVersion)
	}
	i := &identity{boot: d.Boot, name: d.Name, member: d.Member, joined: d.Joined, joining: d.Joining, removed: d.Removed, replicas: d.Replicas, cert: d.Cert}
	var err error
	if i.id, err = parseID(d.ID); err != nil {
		return nil, err
	}
	if len(d.CA) > 0 {
		if i.ca, err = x509.ParseCertificate(d.CA); err != nil {
			return nil, err
		}
	}
	if len(d.Key) > 0 {
		key, err := x509.ParsePKCS8PrivateKey(d.Key)
		k, ok := key.(*ecdsa.PrivateKey)
		if err != nil || !ok {
			return nil, errors.New("the key in it cannot be read")
		}
		i.key = k
	}
	if i.member && (i.ca == nil || i.key == nil || len(i.cert) == 0) {
		return nil, errors.New("it says that this node is a member, and lacks the certificate, the key or the authority")
	}
	for _, n := range d.Nodes {
		id, err := parseID(n.ID)
		if err != nil {
			return nil, err
		}
		i.nodes = append(i.nodes, Node{ID: id, Name: n.Name, Address: n.Address, Client: n.Client, Leaving: n.Leaving, revision: n.Revision})
	}
	return i, nil
}

// write keeps it, so that it is there whole after a power cut, as it was or as it is now.
func (i *identity) write(fsys vfs.FS, dir string) error {
	d := identityFile{Version: documentVersion, ID: IDText(i.id), Boot: i.boot, Name: i.name, Member: i.member, Joined: i.joined, Joining: i.joining, Removed: i.removed, Replicas: i.replicas, Cert: i.cert}
	if i.ca != nil {
		d.CA = i.ca.Raw
	}
	if i.key != nil {
		key, err := x509.MarshalPKCS8PrivateKey(i.key)
		if err != nil {
			return err
		}
		d.Key = key
	}
	for _, n := range i.nodes {
		d.Nodes = append(d.Nodes, identityNode{ID: IDText(n.ID), Revision: n.revision, Name: n.Name, Address: n.Address, Client: n.Client, Leaving: n.Leaving})
	}
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, FileName)
	f, err := fsys.Create(name + ".tmp") // vfs makes files that only their owner reads
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append(data, '\n'), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(name+".tmp", name); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// An Info is what a data directory says of the node that it is of.
type Info struct {
	Name    string
	ID      uint64
	Member  bool
	Removed bool
	Nodes   []Node
}

// Read is what a data directory says of its node, which does not run. There is nothing of it in a directory that never had one, or was
// restored from a backup.
func Read(fsys vfs.FS, dir string) (Info, error) {
	i, isNew, err := readIdentity(fsys, dir)
	if err != nil || isNew {
		return Info{}, err
	}
	return Info{Name: i.name, ID: i.id, Member: i.member, Removed: i.removed, Nodes: i.nodes}, nil
}

// Retire sees to it that a data directory's node does not start any more as the member that it was.
func Retire(fsys vfs.FS, dir string) error {
	i, isNew, err := readIdentity(fsys, dir)
	if err != nil || isNew || i.removed {
		return err
	}
	i.removed = true
	return i.write(fsys, dir)
}

// Forget makes a data directory that of a new node: it has another id, and knows no other nodes.
func Forget(fsys vfs.FS, dir string) error {
	err := fsys.Remove(filepath.Join(dir, FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// tls is the certificate to show; the authority comes with it, so that who joins can compare its fingerprint.
func (i *identity) tls() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{i.cert, i.ca.Raw}, PrivateKey: i.key}
}
