package mysqljournal

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gmq/gmq/internal/journal"
)

var (
	errCommand = errors.New("a row of gmq_command is not as it was written")
	errMissing = errors.New("rows of gmq_command are missing: restore a backup of all tables")
)

// replay restores the owner's state and the follower's.
func (s *Shard) replay(snapshot func([]byte) error, record func(journal.Ref, []byte) error) error {
	ctx := s.j.ctx
	conn, err := s.j.connect(ctx, reads)
	if err != nil {
		return err
	}
	defer discard(conn)
	s.begin()
	follower := s.j.opt.Format.NewFollower()
	from, err := s.replaySnapshot(ctx, conn, func(data []byte) error {
		if err := snapshot(data); err != nil {
			return err
		}
		return follower.LoadSnapshot(data)
	})
	if err != nil {
		return err
	}
	var ended []journal.Span
	err = s.replayCommands(ctx, conn, from, func(ref journal.Ref, payload []byte) error {
		if err := record(ref, payload); err != nil {
			return err
		}
		changes, err := follower.Apply(ref, uint32(len(payload)+journal.HeaderBytes), payload)
		for i := range changes {
			if changes[i].Op == Delete {
				ended = append(ended, journal.Span{Ref: changes[i].Ref, Size: 1})
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	s.follower = follower
	s.releaseAgain(ended)
	return nil
}

// begin forgets what an attempt to replay has found that came to nothing.
func (s *Shard) begin() {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	s.j.kept.Add(-s.bytes - s.snapshot.bytes)
	s.commands, s.bytes, s.snapshot = s.commands[:0], 0, snapInfo{}
	s.wished, s.wish = false, false
}

// releaseAgain deletes rows of which nobody knows whether the last life has deleted them.
func (s *Shard) releaseAgain(ended []journal.Span) {
	j := s.j
	kept := ended[:0]
	j.bodiesMu.Lock()
	for _, e := range ended {
		if j.bodies[e.Ref] == nil {
			kept = append(kept, e)
		}
	}
	j.bodiesMu.Unlock()
	if len(kept) > 0 {
		j.release(kept)
	}
}

// replaySnapshot calls f with the shard's newest snapshot, if there is one, and returns its place.
func (s *Shard) replaySnapshot(ctx context.Context, conn *sql.Conn, f func([]byte) error) (journal.Ref, error) {
	var place int64
	if err := conn.QueryRowContext(ctx, "SELECT snapshot FROM gmq_shard WHERE shard = ?", s.number).Scan(&place); err != nil {
		return 0, err
	}
	if err := s.findGarbage(ctx, conn, place); err != nil || place == 0 {
		return 0, err
	}
	rows, err := conn.QueryContext(ctx, "SELECT part, data FROM gmq_snapshot WHERE shard = ? AND place = ? ORDER BY part", s.number, place)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var data []byte
	parts := 0
	for rows.Next() {
		var part int
		var piece sql.RawBytes
		if err := rows.Scan(&part, &piece); err != nil {
			return 0, err
		}
		if part != parts {
			return 0, fmt.Errorf("part %d of the snapshot at %d is missing in gmq_snapshot", parts, place)
		}
		parts++
		data = append(data, piece...)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	s.snapshot = snapInfo{place: journal.Ref(place), parts: parts, bytes: int64(len(data))}
	s.j.kept.Add(int64(len(data)))
	data, err = unseal(data)
	if err != nil {
		return 0, fmt.Errorf("the snapshot at %d in gmq_snapshot: %w", place, err)
	}
	return journal.Ref(place), f(data)
}

// findGarbage has snapshots deleted that earlier lives did not finish, or did not get to delete.
func (s *Shard) findGarbage(ctx context.Context, conn *sql.Conn, newest int64) error {
	rows, err := conn.QueryContext(ctx, "SELECT place, MAX(part) FROM gmq_snapshot WHERE shard = ? AND place <> ? GROUP BY place", s.number, newest)
	if err != nil {
		return err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var place int64
		var last int
		if err := rows.Scan(&place, &last); err != nil {
			return err
		}
		all = appendDrops(all, s.number, place, last+1)
	}
	s.j.mu.Lock()
	s.j.garbage = append(s.j.garbage, all...)
	s.j.mu.Unlock()
	signal(s.j.work)
	return rows.Err()
}

// replayCommands calls f with every record from that place on.
func (s *Shard) replayCommands(ctx context.Context, conn *sql.Conn, from journal.Ref, f func(journal.Ref, []byte) error) error {
	rows, err := conn.QueryContext(ctx, "SELECT place, part, records FROM gmq_command WHERE shard = ? ORDER BY place, part", s.number)
	if err != nil {
		return err
	}
	defer rows.Close()
	var at journal.Ref // of run
	var run []byte     // its parts
	parts := 0
	for rows.Next() {
		var place int64
		var part int
		var records sql.RawBytes
		if err := rows.Scan(&place, &part, &records); err != nil {
			return err
		}
		if journal.Ref(place) != at {
			if err := s.replayRun(at, run, from, f); err != nil {
				return err
			}
			at, run, parts = journal.Ref(place), run[:0], 0
		}
		if part != parts {
			return fmt.Errorf("%w: place %d, part %d", errCommand, place, part)
		}
		parts++
		run = append(run, records...)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if err := s.replayRun(at, run, from, f); err != nil {
		return err
	}
	if at != s.latest {
		return fmt.Errorf("%w: the last is at place %d, and should be at %d", errMissing, at, s.latest)
	}
	s.pos = max(s.pos, from)
	return nil
}

// openRun is what a run holds, behind its checksum and what tells where the run before is.
func (s *Shard) openRun(place journal.Ref, run []byte, from journal.Ref) ([]byte, error) {
	if len(run) < 4 || binary.LittleEndian.Uint32(run) != sum(place, run[4:]) {
		return nil, fmt.Errorf("%w: place %d", errCommand, place)
	}
	back, n := binary.Uvarint(run[4:])
	if n <= 0 {
		return nil, fmt.Errorf("%w: place %d", errCommand, place)
	}
	k := len(s.commands)
	switch {
	case k > 0 && s.commands[k-1].place+journal.Ref(back) == place, k == 0 && back == 0:
	case k == 0 && place <= from: // those before lie in front of the snapshot, and have been deleted
	default:
		return nil, fmt.Errorf("%w: before place %d", errMissing, place)
	}
	return run[4+n:], nil
}

// replayRun calls f with those records of a run that lie behind from.
func (s *Shard) replayRun(place journal.Ref, run []byte, from journal.Ref, f func(journal.Ref, []byte) error) error {
	if place == 0 {
		return nil
	}
	records, err := s.openRun(place, run, from)
	if err != nil {
		return err
	}
	s.noteCommand(place, len(run))
	stubs, ref := s.j.opt.Format.NewStubs(), place
	for b := records; len(b) > 0; {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("%w: place %d", errCommand, place)
		}
		payload, rest, err := stubs.Read(b[n:])
		if err != nil {
			return fmt.Errorf("%w: place %d: %w", errCommand, place, err)
		}
		ref += journal.Ref(gap)
		if ref >= from { // a snapshot may lie within a run
			if err := f(ref, payload); err != nil {
				return err
			}
		}
		ref += journal.Ref(len(payload) + journal.HeaderBytes)
		s.pos = max(s.pos, ref)
		b = rest
	}
	return nil
}
