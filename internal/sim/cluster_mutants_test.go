package sim

import (
	"testing"
)

const (
	roleGo         = "internal/broker/role.go"
	followGo       = "internal/broker/follow.go"
	queueReplicaGo = "internal/queue/replica.go"
)

// clusterMutants are faults in what a broker does as one of several, that the simulator must find.
var clusterMutants = []mutant{
	{name: "what was under way when the lead was lost is said to be refused", file: roleGo,
		old: "	case errors.Is(cause, errLapsed), errors.Is(cause, journal.ErrUnknown):\n		return wire.Errorf(wire.CodeUnknownOutcome,",
		new: "	case errors.Is(cause, errLapsed), errors.Is(cause, journal.ErrUnknown):\n		return wire.Errorf(wire.CodeNoQuorum,"},
	{name: "a new leader does not say that something may have been delivered", file: queueReplicaGo,
		old: "		q.restored, q.Shielded = q.last, len(q.shield) > 0\n", new: "		q.Shielded = len(q.shield) > 0\n"},
	{name: "two leaders give the same receipts", file: queueReplicaGo, old: "	st.boot = boot\n", new: "	st.boot = boot - boot + 7\n"},
	{name: "what a leader has refused is overtaken by what was sent behind it", file: roleGo,
		old: "(w.term == 0 || w.term == sh.term) && (w.volley == 0 || w.volley > w.s.fences[sh.index]) &&", new: "(w.term == 0 || w.term > 0) &&"},
	{name: "followers leave out what others have proposed, now and then", file: followGo,
		old: "	if b.Err != nil {\n		return nil\n	}\n", new: "	if b.Err != nil || len(b.Data)%64 == 0 {\n		return nil\n	}\n"},
	{name: "what has lapsed is not applied when it comes after all", file: followGo,
		old: "	if b.Err != nil {\n		return nil\n	}\n", new: "	if b.Err != nil || b.Essential || b.Sharers == -1 {\n		return nil\n	}\n"},
	{name: "memory: a forgetful node votes", file: memberGo, old: "binary.LittleEndian.AppendUint64(nil, node), boot)", new: "binary.LittleEndian.AppendUint64(nil, node), boot*0)"},
	{name: "memory: what a leader has itself counts before others have it", file: "internal/cluster/journal.go",
		old: "	case b.Local:\n", new: "	case b.Local || j.g.host.cfg.Memory && j.role.Leading:\n"},
	{name: "memory: who leads again while one of the groups was led here all the time gives the same receipts", file: roleGo,
		old: "uint32(st.role.Term) + n<<24", new: "uint32(st.role.Term) + n*0"},
}

// TestClusterProbe is run in a binary that has a fault: it lets worlds happen until one of them shows it.
func TestClusterProbe(t *testing.T) {
	letProbe(t, func(t *testing.T, seed uint64) string { return clusterWorld(t, seed).Failure })
}

// TestClusterMutants builds the brokers of a cluster with one fault at a time, as TestMutants does.
func TestClusterMutants(t *testing.T) {
	if *groupSeedsFlag < 100 {
		t.Skip("it lets worlds happen for each of the faults; make cluster does")
	}
	catchAll(t, clusterMutants, "TestClusterProbe")
}
