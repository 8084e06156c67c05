package cluster

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"slices"
	"sync"
)

// MemberID is the id of a node in groups that are in memory: another one in each of its lives, so that a node that has forgotten what
// it had, and how it has voted, is nobody until it has been made a member anew. boot is greater in each life.
func MemberID(node, boot uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, node), boot)) // it never fails
	return h.Sum64()>>2 | 1
}

// KeeperConfig says what a keeper needs.
type KeeperConfig struct {
	Node, Boot uint64
	// Host has the groups in memory; its id is MemberID(Node, Boot), and it sends through the keeper's Send.
	Host *Host
	// Nodes are the cluster's, this one among them. FirstLeads reports whether this one leads the group on disks that keeps what is decided here;
	// LeaderOf is the node that leads the group on disks beside a group in memory, 0 where none is known.
	Nodes      func() []uint64
	FirstLeads func() bool
	LeaderOf   func(group int) uint64
	// Decide has a decision kept by that group, from which all nodes hear of it through Decided. It must not wait, and may fail: it is tried again.
	Decide func(decision []byte)
	// Send sends to another node. It must not wait, and may lose it.
	Send func(node uint64, packet []byte)
}

// A Keeper sees to it that the groups in memory have members: it tells other nodes which life of its own node this is, has the groups' leaders take in
// who is there, and where so many have restarted that a group can never decide anything again it has all of them begin anew.
//
// Its methods may be called from any goroutine.
type Keeper struct {
	cfg KeeperConfig
	id  uint64

	mu    sync.Mutex // guards the following
	now   uint64     // ticks
	heard map[uint64]*account
	lives map[uint64]uint64 // nodes, by the ids of their lives
	asked uint64            // the tick in which something was decided last
	known uint64            // the epoch that was decided last
}

// An account is what a node has said of itself last.
type account struct {
	at     uint64 // the tick
	boot   uint64
	member uint64
	epoch  uint64
	groups []standing
}

// A standing is a group as one of its members sees it.
type standing struct {
	leading   bool // and it has all of earlier leaders
	changed   uint64
	committed uint64
	voters    []uint64
	outgoing  []uint64
}

const (
	// sayEvery is how many ticks lie between two accounts; stale is after how many a node may be gone.
	sayEvery, stale = 10, 50
	// decideEvery is how many ticks a decision is given.
	decideEvery = 100

	keeperAccount = 1 // an account follows
	keeperRaft    = 2 // epoch, from, to, then a packet of the groups
	keeperImage   = 3 // the same, then a frame of an image
)

// NewKeeper makes one. Its host must have been made with the id of this life.
func NewKeeper(cfg KeeperConfig) *Keeper {
	k := &Keeper{cfg: cfg, id: MemberID(cfg.Node, cfg.Boot), heard: map[uint64]*account{}, lives: map[uint64]uint64{}}
	k.lives[k.id] = cfg.Node
	return k
}

// Carry sends a packet of the host, CarryImage a frame, to another member.
func (k *Keeper) Carry(to uint64, packet []byte)     { k.carry(keeperRaft, to, packet) }
func (k *Keeper) CarryImage(to uint64, frame []byte) { k.carry(keeperImage, to, frame) }

func (k *Keeper) carry(kind byte, to uint64, packet []byte) {
	k.mu.Lock()
	node, ok := k.lives[to]
	k.mu.Unlock()
	if !ok {
		return // of a life that nobody has heard of, or that is over
	}
	b := append(make([]byte, 0, len(packet)+32), kind)
	for _, n := range [...]uint64{k.cfg.Host.Epoch(), k.id, to} {
		b = binary.AppendUvarint(b, n)
	}
	k.cfg.Send(node, append(b, packet...))
}

// Deliver takes what another node has sent. The bytes are the keeper's from here on.
func (k *Keeper) Deliver(node uint64, b []byte) {
	r := reader{b: b}
	kind := r.byte()
	if kind == keeperAccount {
		if a, err := parseAccount(&r); err == nil {
			k.hear(node, a)
		}
		return
	}
	epoch, from, to := r.number(), r.number(), r.number()
	if r.bad || epoch != k.cfg.Host.Epoch() || to != k.id {
		return // of another epoch, or to a life that is over
	}
	switch kind {
	case keeperRaft:
		k.cfg.Host.Deliver(from, r.b)
	case keeperImage:
		k.cfg.Host.Images().Deliver(from, r.b)
	}
}

// hear notes what a node has said of itself. What it has said in an earlier life counts no more.
func (k *Keeper) hear(node uint64, a *account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := k.heard[node]; old != nil && old.boot > a.boot || a.member != MemberID(node, a.boot) {
		return
	}
	a.at = k.now
	k.heard[node] = a
	for id, n := range k.lives {
		if n == node {
			delete(k.lives, id)
		}
	}
	k.lives[a.member] = node
}

// Tick says that a tick's time has passed.
func (k *Keeper) Tick() {
	k.mu.Lock()
	k.now++
	now := k.now
	k.mu.Unlock()
	if now%sayEvery != 0 {
		return
	}
	a := k.account()
	k.hear(k.cfg.Node, a)
	nodes := k.cfg.Nodes()
	said := append([]byte{keeperAccount}, a.encode()...)
	for _, n := range nodes {
		if n != k.cfg.Node {
			k.cfg.Send(n, said)
		}
	}
	k.settle(nodes)
	if k.cfg.FirstLeads() {
		k.decide(nodes)
	}
}

// account is what this node says of itself.
func (k *Keeper) account() *account {
	a := &account{boot: k.cfg.Boot, member: k.id, epoch: k.cfg.Host.Epoch()}
	for _, s := range k.cfg.Host.Status() {
		a.groups = append(a.groups, standing{leading: s.Leading, changed: s.Changed, committed: s.Committed, voters: s.Voters, outgoing: s.Outgoing})
	}
	return a
}

// settle has the groups that are led here take in who is there, and lets those be led from where the groups on disks are.
func (k *Keeper) settle(nodes []uint64) {
	k.mu.Lock()
	var members []uint64
	life := map[uint64]uint64{}
	for _, n := range nodes {
		if a := k.heard[n]; a != nil {
			members = append(members, a.member)
			life[n] = a.member
		}
	}
	k.mu.Unlock()
	k.cfg.Host.Wish(Wish{Members: members})
	for i, s := range k.cfg.Host.Status() {
		if to := life[k.cfg.LeaderOf(i)]; s.Leading && to != 0 && to != k.id && slices.Contains(s.Voters, to) {
			k.cfg.Host.Transfer(i, to)
		}
	}
}

// decide has the groups begin anew where that is the only way. It is certain only when all nodes are there and say what they have: a life that is over
// votes no more, and who is not there may have what others lack.
func (k *Keeper) decide(nodes []uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked != 0 && k.now-k.asked < decideEvery {
		return
	}
	epoch, lost := k.cfg.Host.Epoch(), false
	if epoch < k.known {
		return // it has been decided
	}
	groups := len(k.cfg.Host.groups)
	for _, n := range nodes {
		a := k.heard[n]
		if a == nil || k.now-a.at > stale || a.epoch != epoch || len(a.groups) != groups {
			return
		}
	}
	d := renewal{epoch: epoch + 1}
	for g := range groups {
		founder, gone := k.heir(nodes, g)
		d.founders = append(d.founders, founder)
		lost = lost || gone
	}
	if !lost {
		return
	}
	k.asked = k.now
	k.cfg.Decide(d.encode())
}

// heir is from whose state a group would begin anew, and whether it has to.
func (k *Keeper) heir(nodes []uint64, group int) (founder uint64, lost bool) {
	var newest, best *standing
	for _, n := range nodes {
		s := &k.heard[n].groups[group]
		if len(s.voters) > 0 && (newest == nil || s.changed > newest.changed) {
			newest = s
		}
	}
	if newest == nil { // nobody has anything
		return k.id, true
	}
	lost = !k.alive(newest.voters) || len(newest.outgoing) > 0 && !k.alive(newest.outgoing)
	founder = k.id
	for _, n := range nodes { // who leads has confirmed all that was; else who has most of it
		a := k.heard[n]
		s := &a.groups[group]
		if len(s.voters) > 0 && (best == nil || s.leading && !best.leading || s.leading == best.leading && s.committed > best.committed) {
			best, founder = s, a.member
		}
	}
	return founder, lost
}

// alive reports whether a majority of members are lives that go on.
func (k *Keeper) alive(members []uint64) bool {
	n := 0
	for _, id := range members {
		if _, ok := k.lives[id]; ok {
			n++
		}
	}
	return n > len(members)/2
}

// Decided is told what was decided last. It is called at the start as well, when the groups are there.
func (k *Keeper) Decided(decision []byte) error {
	d, err := parseRenewal(decision)
	if err != nil {
		return err
	}
	k.mu.Lock()
	news := d.epoch > max(k.known, 1)
	k.known = max(k.known, d.epoch)
	k.mu.Unlock()
	if news {
		k.cfg.Host.Renew(d.epoch, d.founders)
	}
	return nil
}

// What is said and kept, numbers as varints.

const keeperVersion = 1

var errAccount = errors.New("what a node says of its groups in memory is not what this program writes")

func appendNumbers(b []byte, list []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, n := range list {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// numbers takes a list of them off, of no more than there can be.
func (r *reader) numbers() (list []uint64) {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	for range n {
		list = append(list, r.number())
	}
	return list
}

// version u8 | boot | member | epoch | groups: count, then of each: leading u8 | changed | committed | voters | outgoing
func (a *account) encode() []byte {
	b := []byte{keeperVersion}
	for _, n := range [...]uint64{a.boot, a.member, a.epoch, uint64(len(a.groups))} {
		b = binary.AppendUvarint(b, n)
	}
	for i := range a.groups {
		s := &a.groups[i]
		leading := byte(0)
		if s.leading {
			leading = 1
		}
		b = append(b, leading)
		b = binary.AppendUvarint(binary.AppendUvarint(b, s.changed), s.committed)
		b = appendNumbers(appendNumbers(b, s.voters), s.outgoing)
	}
	return b
}

func parseAccount(r *reader) (*account, error) {
	a := &account{}
	version := r.byte()
	a.boot, a.member, a.epoch = r.number(), r.number(), r.number()
	n := r.number()
	if version != keeperVersion || n > uint64(len(r.b)) {
		return nil, errAccount
	}
	for range n {
		a.groups = append(a.groups, standing{leading: r.byte() == 1, changed: r.number(), committed: r.number(), voters: r.numbers(), outgoing: r.numbers()})
	}
	if r.bad || len(r.b) > 0 {
		return nil, errAccount
	}
	return a, nil
}

// version u8 | epoch | founders
func (d *renewal) encode() []byte {
	return appendNumbers(binary.AppendUvarint([]byte{keeperVersion}, d.epoch), d.founders)
}

func parseRenewal(b []byte) (d renewal, err error) {
	r := reader{b: b}
	version := r.byte()
	d.epoch, d.founders = r.number(), r.numbers()
	if version != keeperVersion || r.bad || len(r.b) > 0 || d.epoch == 0 || d.epoch > 1<<16 {
		return d, errAccount
	}
	return d, nil
}
