package sim

const (
	commitGo        = "internal/journal/filejournal/commit.go"
	keeperGo        = "internal/journal/filejournal/keeper.go"
	openGo          = "internal/journal/filejournal/open.go"
	snapGo          = "internal/journal/filejournal/snapwriter.go"
	journalGo       = "internal/journal/filejournal/shard.go"
	shardGo         = "internal/broker/shard.go"
	proposeGo       = "internal/broker/propose.go"
	fanoutGo        = "internal/broker/fanout.go"
	stateGo         = "internal/queue/state.go"
	snapshotGo      = "internal/queue/snapshot.go"
	snapshotChunkGo = "internal/queue/snapshot_chunk.go"
	consumeGo       = "internal/queue/consume.go"
)

// mutants are faults that the simulator must find. Those at the end were in the code until it found them.
var mutants = []mutant{
	{name: "a confirm does not wait for the fsync", file: commitGo,
		old: "\tif l.opt.Sync {\n\t\tif err := c.file.Sync(); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n\tc.closed = false\n",
		new: "\tc.closed = false\n"},
	{name: "a segment's name is not synced", file: "internal/wal/dir.go",
		old: "\tif err == nil {\n\t\terr = d.FS.SyncDir(d.Path)\n\t}\n\tif err = errors.Join(err, f.Close()); err != nil {\n\t\treturn nil, 0, err\n\t}\n",
		new: "\tif err = errors.Join(err, f.Close()); err != nil {\n\t\treturn nil, 0, err\n\t}\n"},
	{name: "a snapshot's name is not synced", file: snapGo,
		old: "\tif err := l.fs.SyncDir(l.snapDir()); err != nil {\n\t\treturn err\n\t}\n", new: ""},
	{name: "a snapshot is not synced before it counts", file: snapGo,
		old: "\tif err := w.file.Sync(); err != nil {\n\t\treturn w.noSpace(err)\n\t}\n", new: ""},
	{name: "a snapshot says that it has more of the log than it has", file: journalGo,
		old: "\tif len(s.done) == 0 {\n\t\ts.pos = max(s.pos, end)\n\t}\n", new: "\ts.pos = max(s.pos, end)\n",
		more: [][3]string{{shardGo, "\tfor again := true; again; {\n", "\tfor _, st := range sh.stores {\n\t\tsh.compact(st)\n\t}\n\tfor again := true; again; {\n"}}},
	{name: "a record's checksum is ignored", seed: 3, file: "internal/wal/format.go",
		old: "|| f.crc(pos, record[8], payload) != binary.LittleEndian.Uint32(record[4:]) {", new: "{"},
	{name: "a torn tail is kept as if it were whole", file: "internal/wal/scan.go",
		old: "\tif verify {\n", new: "\tif verify && h.kind != Records {\n"},
	{name: "an ack is forgotten at replay", file: shardGo,
		old: "\t\t\t_, err := st.state.Apply(", new: "\t\t\tif payload[0] == 7 {\n\t\t\t\treturn nil\n\t\t\t}\n\t\t\t_, err := st.state.Apply("},
	{name: "attempts are not counted at replay", file: shardGo,
		old: "\t\t\t_, err := st.state.Apply(", new: "\t\t\tif payload[0] == 8 {\n\t\t\t\tpayload = append([]byte(nil), payload...)\n\t\t\t\tpayload[1] |= 1\n\t\t\t}\n\t\t\t_, err := st.state.Apply("},
	{name: "a compaction forgets one message in 64", file: snapshotChunkGo,
		old: "\t\tm.flags &= keptFlags\n", new: "\t\tm.flags &= keptFlags\n\t\tif i == 7 {\n\t\t\tm.state = gone\n\t\t}\n"},
	{name: "what a compaction has moved is not retained", file: stateGo,
		old: "\tq.Bytes += m.body() - body\n\tst.retained = append(st.retained, m.stake())\n", new: "\tq.Bytes += m.body() - body\n"},
	{name: "dedup_ids are lost with a snapshot", file: snapshotGo,
		old: "\t\td.remember(id, seq, expires)\n", new: "\t\t_, _ = seq, expires\n"},
	{name: "what is delayed is due at a restart", file: snapshotChunkGo,
		old: "\tst.wait(q, seq, c, m, due)\n", new: "\tst.wait(q, seq, c, m, due-due)\n"},
	{name: "a publish to a topic leaves out one queue", file: fanoutGo,
		old: "\treturn g.to.store == k && !g.void && f.units[g.unit].refusal.Load() == nil\n",
		new: "\treturn g.to.store == k && !g.void && f.units[g.unit].refusal.Load() == nil && (g.to.shard != f.goals[0].to.shard || g == &f.goals[0])\n"},
	{name: "what was refused is stored", file: proposeGo,
		old: "\t\tqueue.Void(payload)\n", new: "\t\t_ = payload\n",
		more: [][3]string{{proposeGo, "\t\tif err == nil {\n\t\t\tw.store = to.store\n", "\t\tfor k := range w.pubs {\n\t\t\tsh.address(w, &w.pubs[k], to.id)\n\t\t}\n\t\tif err == nil {\n\t\t\tw.store = to.store\n"}}},
	{name: "a lease ends too early", file: "internal/queue/leaseends.go", old: "now+int64(c.Lease)", new: "now+int64(c.Lease)/2"},
	{name: "after a restart nobody says that it may have been delivered", file: consumeGo,
		old: "m.delivery() > 1 || seq <= q.restored,", new: "m.delivery() > 1,"},
	{name: "priorities are turned round", file: consumeGo,
		old: "\tfor p := len(q.returned) - 1; p > DefaultPriority && ", new: "\tfor p := DefaultPriority + 1; p < len(q.returned) && ",
		more: [][3]string{{consumeGo, "q.heaps>>(DefaultPriority+1) != 0; p-- {", "q.heaps>>(DefaultPriority+1) != 0; p++ {"}}},

	{name: "found: the name of a spare segment is used twice", file: keeperGo,
		old: "\tk := l.nextSpare\n\tif !enough {\n\t\tl.nextSpare++", new: "\tk := max(l.nextSpare-1, 0)\n\tif !enough {\n\t\tl.nextSpare = k + 1"},
	{name: "found: what a failed fsync left behind is not written again", file: openGo,
		old: "\t_, err := f.WriteAt(b, from)\n\treturn err\n", new: "\treturn nil\n"},
	{name: "found: compactions are asked for faster than snapshots are written", seed: 7, file: keeperGo,
		old: "\tif l.owing.Load() > 0 && !l.scarce.Load() {\n\t\treturn\n\t}\n", new: "",
		more: [][3]string{{snapGo, "\t\tif whole && old {", "\t\tif whole && old && l.looked.Load() < 0 {"}}},
	{name: "found: a nack of what an earlier process delivered ends a new delivery", seed: 2, file: proposeGo,
		old: "\t\t\tstate.Hold(q, seq)\n\t\t\tseqs, held = append(seqs, seq), append(held, seq)\n", new: "\t\t\tseqs, held = append(seqs, seq), held[:0]\n"},
	{name: "found: a receive is given what has outlived its time", seed: 9, file: shardGo,
		old: "\tfor _, st := range sh.stores {\n\t\tsh.ripen(st)\n\t}\n\tfor _, s := range unblocks {", new: "\tfor _, s := range unblocks {",
		more: [][3]string{{shardGo, "\t\tsh.expire(st)\n", "\t\tsh.ripen(st)\n\t\tsh.expire(st)\n"}}},
}
