package cluster

import (
	"bytes"
	"hash/crc32"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func samples() []*raftpb.Message {
	entry := func(kind raftpb.EntryType, term, index uint64, data string) *raftpb.Entry {
		return &raftpb.Entry{Type: kind.Enum(), Term: &term, Index: &index, Data: []byte(data)}
	}
	message := func(kind raftpb.MessageType, n ...uint64) *raftpb.Message {
		n = append(n, make([]uint64, 8)...)
		return &raftpb.Message{Type: kind.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: &n[0], LogTerm: &n[1], Index: &n[2], Commit: &n[3], Vote: &n[4], RejectHint: &n[5]}
	}
	app := message(raftpb.MsgApp, 7, 6, 41, 40)
	app.Entries = []*raftpb.Entry{entry(raftpb.EntryNormal, 7, 42, "some data"), entry(raftpb.EntryNormal, 7, 43, ""), entry(raftpb.EntryConfChangeV2, 7, 44, "members")}
	reject := message(raftpb.MsgAppResp, 7, 5, 41, 0, 0, 39)
	reject.Reject = new(true)
	transfer := message(raftpb.MsgVote, 8, 7, 44)
	transfer.Context = []byte("CampaignTransfer")
	return []*raftpb.Message{app, reject, transfer, message(raftpb.MsgHeartbeat, 7, 0, 0, 44), message(raftpb.MsgVoteResp, 1<<62)}
}

func TestPacketsAreVerbatim(t *testing.T) {
	p := newPacket()
	for i, m := range samples() {
		p.add(i*100, m, uint64(i))
	}
	i := 0
	err := EachMessage(p.bytes(), func(group uint64, m *raftpb.Message, needed uint64) error {
		want := samples()[i]
		if want.Reject == nil {
			m.Reject = nil
		}
		for k, e := range m.Entries {
			if len(e.Data) == 0 {
				e.Data = want.Entries[k].Data
			}
		}
		if group != uint64(i*100) || needed != uint64(i) || !proto.Equal(m, want) {
			t.Errorf("message %d of group %d: %v, want %v", i, group, m, want)
		}
		i++
		return nil
	})
	if err != nil || i != len(samples()) {
		t.Errorf("%d messages, %v", i, err)
	}
}

// A changed bit, and an end that is missing, are found.
func TestPacketsAreChecked(t *testing.T) {
	p := newPacket()
	for _, m := range samples() {
		p.add(3, m, 0)
	}
	whole := p.bytes()
	nothing := func(uint64, *raftpb.Message, uint64) error { return nil }
	for i := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		if EachMessage(b, nothing) == nil {
			t.Errorf("bit %d of byte %d", i%8, i/8)
		}
	}
	for i := range whole {
		if EachMessage(whole[:i], nothing) == nil {
			t.Errorf("%d of %d bytes", i, len(whole))
		}
	}
}

// Whatever comes, with whatever checksum: no panic, and no more memory than it is long.
func FuzzPacket(f *testing.F) {
	for _, m := range samples() {
		p := newPacket()
		p.add(1, m, 2)
		f.Add(p.bytes()[packetHeader:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p := &packet{b: append([]byte{packetVersion, 0, 0, 0, 0}, body...)}
		_ = EachMessage(p.bytes(), func(_ uint64, m *raftpb.Message, _ uint64) error {
			if fromNodes&(1<<m.GetType()) == 0 {
				t.Errorf("a message of the type %s", m.GetType())
			}
			return nil
		})
	})
}

func FuzzMark(f *testing.F) {
	for _, m := range []mark{
		{kind: markOrigin, term: 1, index: 1, data: []byte("members")},
		{kind: markEntry, term: 3, index: 70000, commit: 69999, size: 512},
		{kind: markEntry, entry: raftpb.EntryConfChangeV2, term: 3, index: 4, data: []byte("change")},
		{kind: markState, term: 9, vote: 1 << 62, commit: 3},
	} {
		f.Add(m.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMark(b)
		if err != nil {
			return
		}
		again, err := parseMark(m.append(nil))
		if err != nil || again.term != m.term || again.index != m.index || again.vote != m.vote || again.commit != m.commit || again.size != m.size || !bytes.Equal(again.data, m.data) {
			t.Errorf("%x is %+v, and then %+v, %v", b, m, again, err)
		}
		_, _ = parseHead(b)
	})
}

// The checksum is the one that the log uses: hardware has it.
func TestChecksum(t *testing.T) {
	if got := crc32.Checksum([]byte("123456789"), castagnoli); got != 0xE3069283 {
		t.Errorf("%08x", got)
	}
}
