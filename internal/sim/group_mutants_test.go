package sim

import (
	"testing"
)

const (
	groupGo   = "internal/cluster/group.go"
	readyGo   = "internal/cluster/ready.go"
	replayGo  = "internal/cluster/replay.go"
	confGo    = "internal/cluster/conf.go"
	storageGo = "internal/cluster/storage.go"
	raftLogGo = "internal/cluster/journal.go"
	makeGo    = "internal/cluster/make.go"
	installGo = "internal/cluster/install.go"
	frameGo   = "internal/cluster/frame.go"
	pinGo     = "internal/journal/filejournal/image.go"
)

// sayNow makes append say those answers at once for which cond holds, instead of when they are true.
func sayNow(cond string) string {
	return "\tlater := w.answers[:0:0]\n\tfor _, a := range w.answers {\n\t\tif " + cond + " {\n\t\t\tg.answer([]*raftpb.Message{a})\n\t\t} else {\n\t\t\tlater = append(later, a)\n\t\t}\n\t}\n\tw.answers = later\n\tg.write(w)\n}\n\n// room makes"
}

const roleLine = "\tif !leading {\n"

const writeLine = "\tg.write(w)\n}\n\n// room makes"

// groupMutants are faults in what is ours of a cluster, that the simulator must find. Consensus itself is raft's.
var groupMutants = []mutant{
	{name: "a vote is given before it is synced", file: readyGo, old: writeLine, new: sayNow("a.GetType() == raftpb.MsgVoteResp")},
	{name: "a follower answers before it has synced", file: readyGo, old: writeLine,
		new: sayNow("a.GetType() == raftpb.MsgAppResp && a.GetTo() != g.host.cfg.ID")},
	{name: "a leader counts itself before its fsync", seed: 6, file: readyGo, old: writeLine,
		new: sayNow("a.GetType() == raftpb.MsgAppResp && a.GetTo() == g.host.cfg.ID")},
	{name: "term and vote are not written", seed: 6, file: readyGo,
		old: "\t\tw.mark(g.number, &mark{kind: markState,", new: "\t\t(&write{}).mark(g.number, &mark{kind: markState,"},
	{name: "a log is not synced", file: commitGo,
		old: "\tif l.opt.Sync {\n\t\tif err := c.file.Sync(); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n\tc.closed = false\n",
		new: "\tc.closed = false\n"},
	{name: "the vote is forgotten at a restart", seed: 19, file: replayGo, old: "p.st.hard.Term, p.st.hard.Vote = new(m.term), new(m.vote)\n", new: "p.st.hard.Term = new(m.term)\n",
		more: [][3]string{{replayGo, "\t\tp.st.hard.Vote = new(m.vote)\n", "\t\tp.st.hard.Vote = new(uint64(0))\n"}}},
	{name: "term and vote are forgotten by a snapshot", seed: 4, file: raftLogGo, old: "term: st.hard.GetTerm(), vote: st.hard.GetVote()}", new: "term: 1}"},
	{name: "of two entries with one index the first counts after a restart", file: replayGo,
		old: "\tp.void = m.index > p.st.last()+1 || m.index <= p.st.base\n", new: "\tp.void = m.index != p.st.last()+1\n"},
	{name: "what was not committed is applied after a restart", file: replayGo,
		old: "\tfor p.applied < min(p.commit, p.st.last()) {", new: "\tfor p.applied < p.st.last() {"},
	{name: "a batch is confirmed though another has taken its place", file: groupGo,
		old: "\t\tif o.index == index && o.term == e.GetTerm() {\n", new: "\t\tif o.index == index {\n"},
	{name: "who loses the lead refuses what may still be committed", file: groupGo,
		old: roleLine, new: roleLine + "\t\tfor _, o := range g.own {\n\t\t\tg.refuse(o.batches, journal.ErrOverruled)\n\t\t}\n\t\tg.own = nil\n"},
	{name: "a leader serves before it has all of its predecessors", file: groupGo,
		old: roleLine, new: "\tif leading {\n\t\tg.give(item{role: &journal.Role{Leading: true, Leader: g.host.cfg.ID, Term: g.term}})\n\t}\n" + roleLine},
	{name: "a snapshot says that it has more of the log than it has", file: raftLogGo,
		old: "\tcase idle && told && st.last() == j.applied:\n", new: "\tcase end > 0 || idle && told:\n"},
	{name: "changes of members are forgotten at a restart", file: replayGo, old: "p.confs = append(p.confs, confEntry{p.applied, cc})", new: "_ = cc"},
	{name: "a snapshot tells the members without the last change", file: raftLogGo, old: "marshalConf(st.conf(j.applied))", new: "marshalConf(st.confs[max(0, len(st.confs)-2)].state)"},
	{name: "an image leaves out a live body", file: makeGo,
		old: "\treturn &frame{kind: frameRecords,", new: "\tgot[len(got)-1] = nil\n\treturn &frame{kind: frameRecords,"},
	{name: "an image tells the members without the last change", file: makeGo,
		old: "m.index, m.conf = h.applied, h.conf\n", new: "m.index, m.conf = h.applied, marshalConf(m.g.storage.confs[max(0, len(m.g.storage.confs)-2)].state)\n"},
	{name: "an image counts before it is kept", seed: 51, file: raftLogGo,
		old: "return j.log.SnapshotAt(pos, h.append(nil), func(kept bool) { j.kept(t, kept) })", new: "j.kept(t, true)\n\t\treturn j.log.SnapshotAt(pos, h.append(nil), nil)"},
	{name: "what an image refers to is given back", file: pinGo, old: "\t\tnumber = max(number, p.before)\n", new: "\t\t_ = p.before\n"},
	{name: "the log before an image counts after a restart", file: installGo, old: "max(t.behind, j.floor)", new: "max(t.behind*0, j.floor)"},
	{name: "a changed bit of an image is not seen", file: frameGo, old: "crc32.Checksum(b[frameHeader:], castagnoli) != binary.LittleEndian.Uint32(b[1:])", new: "false"},
	{name: "a damaged log is taken for one that was cut short, and its node leads", seed: 19, file: "internal/wal/recover.go",
		old: "\tif beyond.Synced > MakePos(h.Number, tail.End) {\n", new: "\tif beyond.Synced > MakePos(h.Number, tail.End) && frames < 0 {\n"},
	{name: "found: what a node alone has kept overtakes entries in front of it", seed: 155, file: "internal/cluster/locals.go", old: "g.early[n].after <= g.given", new: "true"},
	{name: "nothing says how far is applied in front of what a node alone keeps", seed: 25, file: raftLogGo, old: "	if j.applied <= j.noted {\n", new: "	if j.applied <= j.noted || j.applied > 0 {\n"},
	{name: "found: who is to go and leads keeps waiting for an heir that votes", file: confGo, old: "\tif !slices.ContainsFunc(c.voters, w.wants) {\n\t\treturn nil\n\t}\n", new: ""},
	{name: "found: entries that others have replaced stop a restart", seed: 21, file: replayGo,
		old: "m.index <= p.applied && m.index > p.taken {\n", new: "m.index <= p.applied {\n"},
	{name: "found: what is proposed during a transfer is refused", file: groupGo,
		old: "st.RaftState == raft.StateLeader && (st.LeadTransferee != 0 || len(g.sent)+len(g.own) > 0) {",
		new: "st.RaftState == raft.StateLeader && st.LeadTransferee == 0 && len(g.sent)+len(g.own) > 0 {"},
}

// TestGroupProbe is run in a binary that has a fault: it lets worlds happen until one of them shows it.
func TestGroupProbe(t *testing.T) {
	letProbe(t, func(t *testing.T, seed uint64) string { return groupWorld(t, seed).Failure })
}

// TestGroupMutants builds the groups with one fault at a time, as TestMutants does.
func TestGroupMutants(t *testing.T) {
	if *groupSeedsFlag < 100 {
		t.Skip("it lets worlds happen for each of the faults; make groups does")
	}
	catchAll(t, groupMutants, "TestGroupProbe")
}
