package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gmq/gmq/internal/spare"
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
	// Decide has a decision kept by that group, from which all nodes hear of it through Decided. It must not wait, and may fail: it is tried again. done is
	// to be called when nothing of it is on its way any more.
	Decide func(decision []byte, done func())
	// Send sends to another node, SendImage what is of images. Neither must wait, and both may lose it. Without SendImage all goes by Send.
	Send, SendImage func(node uint64, packet []byte)
	// Leaves reports whether a node is being taken out; nil: none is.
	Leaves func(node uint64) bool
	// Held is told, when it changes, whether what a group confirms is in the memory of a majority of the nodes. It must not wait. Nil: nobody wants to know.
	Held func(group int, quorum bool)
}

// A Keeper sees to it that the groups in memory have members: it tells other nodes which life of its own node this is, has the groups' leaders take in
// who is there, and where so many have restarted that a group can never decide anything again it has all of them begin anew.
//
// Its methods may be called from any goroutine.
type Keeper struct {
	cfg KeeperConfig
	id  uint64

	deciding atomic.Bool // a decision is on its way: of two for the same epoch, nodes could hear either

	mu      sync.Mutex // guards the following
	now     uint64     // ticks
	heard   map[uint64]*account
	news    bool              // something has changed in what is heard
	lives   map[uint64]uint64 // nodes, by the ids of their lives
	asked   uint64            // the tick in which something was decided last
	known   uint64            // the epoch that was decided last
	knownAt uint64            // the tick in which that was heard of; 0: when this node started
	held    []bool            // as Held was told last, by group
	votes   [][]uint64        // by group: the nodes whose members vote, where the group goes on
}

// An account is what a node has said of itself last.
type account struct {
	at     uint64 // the tick
	boot   uint64
	member uint64
	epoch  uint64
	groups []standing
	whole  bool // this node's own: all groups are there
}

// A standing is a group as one of its members sees it.
type standing struct {
	leading   bool // and it has all of earlier leaders
	led       bool // by somebody whom it hears
	changed   uint64
	committed uint64
	voters    []uint64
	outgoing  []uint64
}

const (
	// sayEvery is how many ticks lie between two accounts; stale is after how many a node may be gone, and absent after how many the others do
	// not wait for it any more.
	sayEvery, stale, absent = 10, 50, 100
	// decideEvery is how many ticks a decision is given.
	decideEvery = 100

	keeperAccount = 1 // an account follows
	keeperRaft    = 2 // epoch, from, to, then a packet of the groups
	keeperImage   = 3 // the same, then a frame of an image
)

// NewKeeper makes one. Its host must have been made with the id of this life.
func NewKeeper(cfg KeeperConfig) *Keeper {
	if cfg.SendImage == nil {
		cfg.SendImage = cfg.Send
	}
	k := &Keeper{cfg: cfg, id: MemberID(cfg.Node, cfg.Boot), heard: map[uint64]*account{}, lives: map[uint64]uint64{}}
	k.lives[k.id] = cfg.Node
	return k
}

// Carry sends a packet of the host, CarryImage a frame, to another member.
func (k *Keeper) Carry(to uint64, packet []byte) { k.carry(keeperRaft, to, packet, k.cfg.Send) }
func (k *Keeper) CarryImage(to uint64, frame []byte) {
	k.carry(keeperImage, to, frame, k.cfg.SendImage)
}

func (k *Keeper) carry(kind byte, to uint64, packet []byte, send func(uint64, []byte)) {
	k.mu.Lock()
	node, ok := k.lives[to]
	k.mu.Unlock()
	if !ok {
		return // of a life that nobody has heard of, or that is over
	}
	b := append(spare.Get(len(packet)+32), kind)
	for _, n := range [...]uint64{k.cfg.Host.Epoch(), k.id, to} {
		b = binary.AppendUvarint(b, n)
	}
	send(node, append(b, packet...))
	spare.Put(packet)
}

// Unreachable says that what was sent to a node may not have arrived.
func (k *Keeper) Unreachable(node uint64) {
	if id := k.life(node); id != 0 {
		k.cfg.Host.Unreachable(id)
	}
}

// life is the id of a node's life of now; 0: it was not heard of.
func (k *Keeper) life(node uint64) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.heard[node]; a != nil {
		return a.member
	}
	return 0
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
	if r.bad || epoch == 0 || to != k.id {
		return // to a life that is over
	}
	switch kind { // who takes it looks whether the epoch is that of then
	case keeperRaft:
		k.cfg.Host.deliver(epoch, from, r.b)
	case keeperImage:
		k.cfg.Host.Images().deliver(epoch, from, r.b)
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
	k.news = k.news || !a.alike(k.heard[node])
	k.heard[node] = a
	for id, n := range k.lives {
		if n == node {
			delete(k.lives, id)
		}
	}
	k.lives[a.member] = node
}

// changed reports whether any node has said something new since it was asked last: then there may be something to do, and to say, at once.
func (k *Keeper) changed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	news := k.news
	k.news = false
	return news
}

// alike reports whether two accounts differ in nothing but how much is committed.
func (a *account) alike(b *account) bool {
	return b != nil && a.member == b.member && a.epoch == b.epoch && slices.EqualFunc(a.groups, b.groups, func(x, y standing) bool {
		return x.leading == y.leading && x.led == y.led && x.changed == y.changed && len(x.voters) == len(y.voters) && len(x.outgoing) == len(y.outgoing)
	})
}

// Tick says that a tick's time has passed.
func (k *Keeper) Tick() {
	k.mu.Lock()
	k.now++
	now := k.now
	k.mu.Unlock()
	nodes, status := k.cfg.Nodes(), k.cfg.Host.Status()
	for i := range status {
		k.follow(&status[i])
		k.weigh(&status[i], len(nodes))
	}
	if len(status) == 0 {
		return // the host has not ticked yet
	}
	a := k.account(status)
	if k.hear(k.cfg.Node, a); now%sayEvery != 2 && !k.changed() {
		return
	}
	said := append([]byte{keeperAccount}, a.encode()...)
	for _, n := range nodes {
		if n != k.cfg.Node {
			k.cfg.Send(n, bytes.Clone(said))
		}
	}
	if k.cfg.Leaves != nil {
		nodes = slices.DeleteFunc(slices.Clone(nodes), k.cfg.Leaves)
	}
	k.settle(nodes)
	if k.cfg.FirstLeads() && a.whole {
		k.decide(nodes)
	}
}

// account is what this node says of itself.
func (k *Keeper) account(status []GroupStatus) *account {
	a := &account{boot: k.cfg.Boot, member: k.id, epoch: k.cfg.Host.Epoch(), whole: true}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range status {
		a.whole = a.whole && s.Here
		a.groups = append(a.groups, standing{leading: s.Leading, led: k.hears(s.Leader), changed: s.Changed, committed: s.Committed, voters: s.Voters, outgoing: s.Outgoing})
	}
	return a
}

// hears reports whether a member is a life that this node has heard lately. Who does not vote goes on following a leader that is gone: raft never
// tells it that there is none. Called with mu held.
func (k *Keeper) hears(member uint64) bool {
	if member == k.id {
		return true
	}
	node, ok := k.lives[member]
	if !ok {
		return false
	}
	a := k.heard[node]
	return a != nil && k.now-a.at <= stale
}

// settle has the groups that are led here take in who is there.
func (k *Keeper) settle(nodes []uint64) {
	k.mu.Lock()
	var members []uint64
	for _, n := range nodes {
		if a := k.heard[n]; a != nil {
			members = append(members, a.member)
		}
	}
	votes := make([][]uint64, len(k.cfg.Host.groups))
	for g := range votes {
		if newest := k.newest(nodes, g); newest != nil && k.alive(newest.voters, nil) {
			for _, id := range newest.voters {
				votes[g] = append(votes[g], k.lives[id]) // 0: it is over
			}
		}
	}
	k.votes = votes
	k.mu.Unlock()
	k.cfg.Host.Wish(Wish{Members: members})
}

// MayLead reports whether a node may lead the group on disks: the group in memory beside it has to be led there as well. Where that
// group is not there, or goes on no more, it makes no difference.
func (k *Keeper) MayLead(group int, node uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return group >= len(k.votes) || len(k.votes[group]) == 0 || slices.Contains(k.votes[group], node)
}

// Follow has a group that this node leads be led from where the group on disks is: it is to be called when that has changed.
func (k *Keeper) Follow(group int) {
	if all := k.cfg.Host.Status(); group < len(all) {
		k.follow(&all[group])
	}
}

func (k *Keeper) follow(s *GroupStatus) {
	if !s.Leading {
		return
	}
	if to := k.life(k.cfg.LeaderOf(s.Group)); to != 0 && to != k.id && slices.Contains(s.Voters, to) {
		k.cfg.Host.Transfer(s.Group, to)
	}
}

// weigh finds out whether what a group confirms is in the memory of a majority of the nodes. Where members were few, and have become more under this leader,
// they must have what was confirmed before, too.
func (k *Keeper) weigh(s *GroupStatus, nodes int) {
	if k.cfg.Held == nil {
		return
	}
	quorum := nodes > 1 && 2*(len(s.Voters)/2+1) > nodes
	k.mu.Lock()
	for len(k.held) <= s.Group {
		k.held = append(k.held, false)
	}
	was := k.held[s.Group]
	if quorum && !was && s.Leading {
		have := 0
		for _, p := range s.Progress {
			if p.Match >= s.Changed && slices.Contains(s.Voters, p.Node) {
				have++
			}
		}
		quorum = 2*have > nodes
	}
	if s.Epoch < k.known || quorum == was {
		k.mu.Unlock()
		return
	}
	k.held[s.Group] = quorum
	k.mu.Unlock()
	k.cfg.Held(s.Group, quorum)
}

// decide has the groups begin anew where that is the only way. It is certain when all nodes are there and say what they have: a life that is over
// votes no more, and who is not there may have what others lack. When a node has been away for long the others go on without it, if they are a majority, and
// none of them knows of a leader: where others than they had one, one of them would have to be among its followers. What was confirmed by those that
// are away alone is lost then, as where they are lost for good.
func (k *Keeper) decide(nodes []uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.deciding.Load() || k.asked != 0 && k.now-k.asked < decideEvery || k.knownAt != 0 && k.now-k.knownAt < decideEvery {
		return // who leads here now may not be who has asked; and the founders have to begin
	}
	epoch, lost := k.cfg.Host.Epoch(), false
	if epoch < k.known {
		return // it has been decided
	}
	groups := len(k.cfg.Host.groups)
	var there []uint64
	for _, n := range nodes {
		a := k.heard[n]
		switch {
		case a == nil && k.now > absent, a != nil && k.now-a.at > absent:
		case a == nil || k.now-a.at > stale || a.epoch != epoch || len(a.groups) != groups:
			return
		default:
			there = append(there, n)
		}
	}
	if len(there) <= len(nodes)/2 {
		return
	}
	d := renewal{epoch: epoch + 1}
	for g := range groups {
		founder, gone := k.heir(nodes, there, g)
		d.founders = append(d.founders, founder)
		lost = lost || gone
	}
	if !lost {
		return
	}
	k.asked = k.now
	k.deciding.Store(true)
	k.cfg.Decide(d.encode(), func() { k.deciding.Store(false) })
}

// newest is the standing of a group that knows of the latest members; nil: nobody has anything. Called with mu held.
func (k *Keeper) newest(nodes []uint64, group int) (newest *standing) {
	epoch := k.cfg.Host.Epoch()
	for _, n := range nodes {
		a := k.heard[n]
		if a == nil || a.epoch != epoch || group >= len(a.groups) {
			continue
		}
		if s := &a.groups[group]; len(s.voters) > 0 && (newest == nil || s.changed > newest.changed) {
			newest = s
		}
	}
	return newest
}

// heir is from whose state a group would begin anew, and whether it has to.
func (k *Keeper) heir(nodes, there []uint64, group int) (founder uint64, lost bool) {
	newest := k.newest(nodes, group)
	if newest == nil { // nobody has anything: then who leads on disks need not give that away
		if node := k.cfg.LeaderOf(group); slices.Contains(there, node) {
			return k.heard[node].member, true
		}
		return k.id, true
	}
	if len(there) == len(nodes) {
		there = nil
	}
	lost = !k.alive(newest.voters, there) || len(newest.outgoing) > 0 && !k.alive(newest.outgoing, there)
	founder = k.id
	var best *standing
	for _, n := range nodes { // who leads has confirmed all that was; else who has most of it
		if there != nil && !slices.Contains(there, n) {
			continue
		}
		a := k.heard[n]
		s := &a.groups[group]
		lost = lost && (there == nil || !s.led)
		if len(s.voters) > 0 && (best == nil || s.leading && !best.leading || s.leading == best.leading && s.committed > best.committed) {
			best, founder = s, a.member
		}
	}
	return founder, lost
}

// alive reports whether a majority of members are lives that go on, of these nodes; nil: of any.
func (k *Keeper) alive(members, nodes []uint64) bool {
	n := 0
	for _, id := range members {
		if node, ok := k.lives[id]; ok && (nodes == nil || slices.Contains(nodes, node)) {
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
	if k.known = max(k.known, d.epoch); news {
		k.knownAt = k.now
	}
	var held []bool
	if news {
		held = slices.Clone(k.held)
		clear(k.held)
	}
	k.mu.Unlock()
	for g, was := range held { // before anything is confirmed by who begins alone
		if was {
			k.cfg.Held(g, false)
		}
	}
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

// version u8 | boot | member | epoch | groups: count, then of each: leading u8, and 2 where it is led | changed | committed | voters | outgoing
func (a *account) encode() []byte {
	b := []byte{keeperVersion}
	for _, n := range [...]uint64{a.boot, a.member, a.epoch, uint64(len(a.groups))} {
		b = binary.AppendUvarint(b, n)
	}
	for i := range a.groups {
		s := &a.groups[i]
		lead := byte(0)
		if s.leading {
			lead |= 1
		}
		if s.led {
			lead |= 2
		}
		b = append(b, lead)
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
		lead := r.byte()
		a.groups = append(a.groups, standing{leading: lead&1 != 0, led: lead&2 != 0, changed: r.number(), committed: r.number(), voters: r.numbers(), outgoing: r.numbers()})
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
