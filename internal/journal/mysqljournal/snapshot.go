package mysqljournal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/gmq/gmq/internal/journal"
)

// snapInfo is a snapshot in the tables.
type snapInfo struct {
	place journal.Ref // 0: there is none
	parts int
	bytes int64
}

// A snapWriter writes a snapshot, piece by piece, with the transactions that come along. The last of them makes it the
// newest, and deletes what it replaces.
type snapWriter struct {
	shard *Shard
	place journal.Ref
	needs uint64 // releases that must have been carried out when it counts: they are not replayed any more

	// Guarded by Journal.mu.
	pieces  [][]byte
	backlog int
	whole   bool
	queued  bool // in Journal.writers

	// The composer's.
	parts  int
	bytes  int64
	sum    uint32
	summed bool
}

// partBytes is how large a part of a snapshot is at most, about.
const partBytes = 256 << 10

// Snapshot implements journal.Journal.
func (s *Shard) Snapshot() journal.Snapshot {
	s.logMu.Lock()
	same := s.snapshot.place == s.pos
	s.logMu.Unlock()
	if same {
		return idle{s} // nothing has happened since
	}
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	return &snapWriter{shard: s, place: s.pos, needs: s.j.releases}
}

// idle is a snapshot that is there already.
type idle struct{ shard *Shard }

func (idle) Write([]byte) {}
func (idle) Backlog() int { return 0 }

func (i idle) Commit() {
	i.shard.logMu.Lock()
	i.shard.wished = false
	i.shard.logMu.Unlock()
}

// Write implements journal.Snapshot.
func (w *snapWriter) Write(piece []byte) {
	j := w.shard.j
	j.mu.Lock()
	w.pieces = append(w.pieces, piece)
	w.backlog += len(piece)
	w.queue()
	j.mu.Unlock()
	signal(j.work)
}

// queue has the composer look at w. Called with Journal.mu held.
func (w *snapWriter) queue() {
	if !w.queued {
		w.queued = true
		w.shard.j.writers = append(w.shard.j.writers, w)
	}
}

// Backlog implements journal.Snapshot.
func (w *snapWriter) Backlog() int {
	w.shard.j.mu.Lock()
	defer w.shard.j.mu.Unlock()
	return w.backlog
}

// Commit implements journal.Snapshot.
func (w *snapWriter) Commit() {
	j := w.shard.j
	j.mu.Lock()
	w.whole = true
	w.queue()
	j.mu.Unlock()
	signal(j.work)
}

// snapshot adds what there is of a snapshot to the transaction.
func (c *composer) snapshot(w *snapWriter) {
	j := c.j
	j.mu.Lock()
	pieces, whole := w.pieces, w.whole
	w.pieces, w.backlog, w.queued = nil, 0, false
	j.mu.Unlock()
	if w.parts == 0 && len(pieces) > 0 { // what an earlier life has left half done
		c.changesFirst(fmt.Sprintf("DELETE FROM gmq_snapshot WHERE shard = %d AND place = %d", w.shard.number, w.place))
	}
	for _, p := range pieces {
		for len(p) > 0 {
			part := p[:min(len(p), partBytes, c.pieces.limit)]
			p = p[len(part):]
			c.piece(w, part)
		}
	}
	c.txn.written = append(c.txn.written, w)
	if !whole {
		return
	}
	if !w.summed {
		w.summed = true
		c.piece(w, binary.LittleEndian.AppendUint32(nil, w.sum))
	}
	c.whole = append(c.whole, w)
}

// changesFirst adds a statement in front of all others of the transaction so far.
func (c *composer) changesFirst(statement string) {
	c.txn.statements = append([]string{statement}, c.txn.statements...)
}

func (c *composer) piece(w *snapWriter, data []byte) {
	w.sum = crc32.Update(w.sum, castagnoli, data)
	t := &c.pieces
	t.row(len(data)*9/8 + 100)
	t.text = append(appendInt(append(t.text, '('), int64(w.shard.number)), ',')
	t.text = append(appendInt(t.text, int64(w.place)), ',')
	t.text = append(appendInt(t.text, int64(w.parts)), ',')
	t.text = append(appendBinary(t.text, data), ')')
	w.parts++
	w.bytes += int64(len(data))
	c.pieced += len(data)
}

// unseal checks a snapshot, and returns it without its checksum.
func unseal(data []byte) ([]byte, error) {
	n := len(data) - 4
	if n < 0 || crc32.Checksum(data[:n], castagnoli) != binary.LittleEndian.Uint32(data[n:]) {
		return nil, errors.New("its checksum is wrong")
	}
	return data[:n], nil
}

// conclude makes a snapshot the newest, if all rows are gone that its state does not know.
func (c *composer) conclude(w *snapWriter) {
	if c.deleted < w.needs {
		c.j.mu.Lock() // with one of the next transactions
		w.queue()
		c.j.mu.Unlock()
		return
	}
	s := w.shard
	c.txn.statements = append(c.txn.statements, fmt.Sprintf("UPDATE gmq_shard SET snapshot = %d WHERE shard = %d", w.place, s.number))
	s.logMu.Lock()
	defer s.logMu.Unlock()
	old := s.snapshot
	s.snapshot = snapInfo{place: w.place, parts: w.parts, bytes: w.bytes}
	c.j.kept.Add(w.bytes - old.bytes)
	c.chores = appendDrops(c.chores, s.number, int64(old.place), old.parts)
	n := 0 // rows that lie in front of the snapshot's place, but for the last of them, which may go on behind it
	for n+1 < len(s.commands) && s.commands[n+1].place <= w.place {
		s.bytes -= int64(s.commands[n].bytes)
		c.j.kept.Add(-int64(s.commands[n].bytes))
		n++
	}
	for from := 0; from < n; from += choreRows {
		part := s.commands[from:min(from+choreRows, n)]
		c.chores = append(c.chores, fmt.Sprintf("DELETE FROM gmq_command WHERE shard = %d AND place BETWEEN %d AND %d",
			s.number, part[0].place, part[len(part)-1].place))
	}
	s.commands = append(s.commands[:0], s.commands[n:]...)
	s.wished = false
}

// appendDrops appends statements that delete a snapshot of so many parts.
func appendDrops(dst []string, shard int, place int64, parts int) []string {
	for part := 0; part < parts; part += choreParts {
		dst = append(dst, fmt.Sprintf("DELETE FROM gmq_snapshot WHERE shard = %d AND place = %d AND part BETWEEN %d AND %d",
			shard, place, part, part+choreParts-1))
	}
	return dst
}

// choreParts and choreRows are how much one statement deletes of what is garbage.
const choreParts, choreRows = 32, 500
