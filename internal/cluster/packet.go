package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/gmq/gmq/internal/spare"
	"go.etcd.io/raft/v3/raftpb"
)

// A packet is what one node says to another at a time: messages of any groups. All groups tick together, so that heartbeats
// of idle groups travel in one.
//
//	0  1  version    1  4  crc32c of all behind it    5  messages
//
// A message, numbers as varints:
//
//	group | type u8 | flags u8 | from | to | term | log term | index | commit | vote | reject hint
//	[context length | context] | [needed] | entries: count, then of each: type u8 | term | length | data
//
// Needed is said by leaders with their heartbeats: the first index that some member lacks, so that all members keep what lies
// behind, as each of them may lead next. An entry's index is not said: the first is behind the message's index, the others follow.
type packet struct{ b []byte }

const (
	packetVersion = 1
	packetHeader  = 5
	// fullPacket is where a packet is sent though more may follow. MaxPacket is the greatest that a node takes: an entry
	// is a batch, which may be as large as a segment of the log can be.
	fullPacket = 1 << 20
	MaxPacket  = 1 << 30
)

// A message takes about this much, and each of its entries this much besides its data.
const messageRoom, entryRoom = 64, 16

const (
	flagReject  = 1 << 0
	flagContext = 1 << 1
	flagNeeded  = 1 << 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newPacket() *packet { return &packet{b: append(make([]byte, 0, 512), packetVersion, 0, 0, 0, 0)} }

// size is how many bytes of messages it holds.
func (p *packet) size() int { return len(p.b) - packetHeader }

func (p *packet) add(group int, m *raftpb.Message, needed uint64) {
	size := messageRoom
	for _, e := range m.GetEntries() {
		size += len(e.GetData()) + entryRoom
	}
	p.grow(size)
	b := binary.AppendUvarint(p.b, uint64(group))
	flags := byte(0)
	if m.GetReject() {
		flags |= flagReject
	}
	if len(m.GetContext()) > 0 {
		flags |= flagContext
	}
	if needed > 0 {
		flags |= flagNeeded
	}
	b = append(b, byte(m.GetType()), flags)
	for _, n := range [...]uint64{m.GetFrom(), m.GetTo(), m.GetTerm(), m.GetLogTerm(), m.GetIndex(), m.GetCommit(), m.GetVote(), m.GetRejectHint()} {
		b = binary.AppendUvarint(b, n)
	}
	if flags&flagContext != 0 {
		b = append(binary.AppendUvarint(b, uint64(len(m.GetContext()))), m.GetContext()...)
	}
	if needed > 0 {
		b = binary.AppendUvarint(b, needed)
	}
	b = binary.AppendUvarint(b, uint64(len(m.GetEntries())))
	for _, e := range m.GetEntries() {
		b = append(b, byte(e.GetType()))
		b = binary.AppendUvarint(b, e.GetTerm())
		b = binary.AppendUvarint(b, uint64(len(e.GetData())))
		b = append(b, e.GetData()...)
	}
	p.b = b
}

// grow makes room for n bytes. A member that comes back has megabytes after megabytes: in new buffers each time, that would keep the garbage collector busy
// with all that is alive, and all others waiting for it.
func (p *packet) grow(n int) {
	switch n += len(p.b); {
	case n <= cap(p.b):
	case n <= spare.Least:
		p.b = slices.Grow(p.b, n-len(p.b))
	default:
		b := append(spare.Get(n), p.b...)
		spare.Put(p.b)
		p.b = b
	}
}

// bytes is the packet as it is sent.
func (p *packet) bytes() []byte {
	binary.LittleEndian.PutUint32(p.b[1:], crc32.Checksum(p.b[packetHeader:], castagnoli))
	return p.b
}

var errPacket = errors.New("the packet is not whole")

// EachMessage calls f for the messages of a packet. Their data are views into it.
func EachMessage(b []byte, f func(group uint64, m *raftpb.Message, needed uint64) error) error {
	if len(b) < packetHeader || crc32.Checksum(b[packetHeader:], castagnoli) != binary.LittleEndian.Uint32(b[1:]) {
		return errPacket
	}
	if b[0] != packetVersion {
		return fmt.Errorf("the packet has version %d, this program knows %d", b[0], packetVersion)
	}
	for r := (reader{b: b[packetHeader:]}); len(r.b) > 0; {
		group := r.number()
		m, needed, err := parseMessage(&r)
		if err == nil {
			err = f(group, m, needed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fromNodes are the types of messages that nodes send each other. No other is anybody else's business.
const fromNodes = 1<<raftpb.MsgApp | 1<<raftpb.MsgAppResp | 1<<raftpb.MsgVote | 1<<raftpb.MsgVoteResp | 1<<raftpb.MsgHeartbeat |
	1<<raftpb.MsgHeartbeatResp | 1<<raftpb.MsgTransferLeader | 1<<raftpb.MsgTimeoutNow | 1<<raftpb.MsgPreVote | 1<<raftpb.MsgPreVoteResp |
	1<<raftpb.MsgSnap | // which says only that there is a snapshot, of which index: images.go
	1<<msgLead // which is not raft's: herald.go

// An arrived message has its numbers beside it: heartbeats are most of what arrives, and each of them is allocated at once.
type arrived struct {
	message raftpb.Message
	kind    raftpb.MessageType
	numbers [8]uint64
}

func parseMessage(r *reader) (m *raftpb.Message, needed uint64, err error) {
	kind, flags := raftpb.MessageType(r.byte()), r.byte()
	if kind > msgLead || fromNodes&(1<<kind) == 0 {
		return nil, 0, fmt.Errorf("a message of the type %d, which nodes do not send", kind)
	}
	a := &arrived{kind: kind}
	m, n := &a.message, &a.numbers
	for i := range n {
		n[i] = r.number()
	}
	m.Type, m.From, m.To, m.Term, m.LogTerm, m.Index, m.Commit, m.Vote, m.RejectHint = &a.kind, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7]
	if flags&flagReject != 0 {
		m.Reject = new(true)
	}
	if flags&flagContext != 0 {
		m.Context = r.bytes(r.number())
	}
	if flags&flagNeeded != 0 {
		needed = r.number()
	}
	count := r.number()
	if count > uint64(len(r.b)/3) { // each takes three bytes at least
		return nil, 0, errPacket
	}
	entries := make([]raftpb.Entry, count)
	numbers := make([]uint64, 2*count)
	for i := range entries {
		e := &entries[i]
		e.Type = raftpb.EntryType(r.byte()).Enum()
		numbers[2*i], numbers[2*i+1] = r.number(), n[4]+1+uint64(i)
		e.Term, e.Index = &numbers[2*i], &numbers[2*i+1]
		e.Data = r.bytes(r.number())
		m.Entries = append(m.Entries, e)
		r.bad = r.bad || e.GetType() > raftpb.EntryConfChangeV2
	}
	if r.bad {
		return nil, 0, errPacket
	}
	return m, needed, nil
}
