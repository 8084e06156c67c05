package cluster

import (
	"runtime"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestHundredNodes is what an idle node would say, and what its groups would cost, in a cluster of 100 nodes with 1,600 groups of three replicas. The numbers are
// those of docs/cluster.md.
func TestHundredNodes(t *testing.T) {
	const nodes, groups, replicas = 100, 1600, 3
	const each = groups * replicas / nodes
	size := func(kind raftpb.MessageType, needed uint64) int {
		p := newPacket()
		p.add(groups-1, &raftpb.Message{Type: kind.Enum(), From: new(uint64(1) << 62), To: new(uint64(1) << 62), Term: new(uint64(300)), Commit: new(uint64(1) << 27), Index: new(uint64(1) << 27)}, needed)
		return p.size()
	}
	beat, answer, lead := size(raftpb.MsgHeartbeat, 1<<27), size(raftpb.MsgHeartbeatResp, 0), size(msgLead, 0)
	const ticks, election = 20, 12 // a second; a word to who is no member comes each second election
	led := groups / nodes
	heartbeats := ticks * (led*(replicas-1)*beat + (each-led)*answer)
	heralds := led * (nodes - replicas) * lead * ticks / (heraldElections * election)
	t.Logf("a heartbeat has %d bytes, its answer %d, a leader's word to others %d", beat, answer, lead)
	t.Logf("each of %d nodes says %d bytes of heartbeats and answers a second, and %d of who leads", nodes, heartbeats, heralds)
	if beat > 64 || answer > 64 || lead > 64 {
		t.Error("heartbeats are larger than the documents say")
	}

	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	cost := func(begin func(j *Journal) error) uint64 {
		before := heap()
		h, err := New(Config{ID: 1, Groups: groups, Send: func(uint64, []byte) {}, Wake: func() {}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range groups {
			j := h.Journal(i, func() {}, func(func()) Log { return &scriptLog{end: 1 << 32} })
			if err := begin(j); err != nil {
				t.Fatal(err)
			}
		}
		for range 30 {
			h.Tick()
			h.Turn()
		}
		after := heap()
		runtime.KeepAlive(h)
		return (max(after, before) - before) / groups
	}
	none := cost(func(j *Journal) error { return j.Await() })
	some := cost(func(j *Journal) error { return j.Begin([]uint64{1, 2, 3}) })
	t.Logf("a group takes %d bytes of memory where the node is no member, %d where it is one, without entries: %d KiB a node", none, some, (none*(groups-each)+some*each)>>10)
	if none > 32<<10 || some > 64<<10 {
		t.Error("an idle group takes more memory than the documents say")
	}
}
