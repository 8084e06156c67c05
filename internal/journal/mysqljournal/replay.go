package mysqljournal

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gmq/gmq/internal/journal"
)

var errCommand = errors.New("a row of gmq_command is not as it was written")

// replay restores the owner's state and the follower's.
func (s *Shard) replay(snapshot func([]byte) error, record func(journal.Ref, []byte) error) error {
	ctx := s.j.ctx
	conn, _, err := s.j.connect(ctx, true)
	if err != nil {
		return err
	}
	defer discard(conn)
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
	if place == 0 {
		return 0, nil
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

// replayCommands calls f with every record from that place on.
func (s *Shard) replayCommands(ctx context.Context, conn *sql.Conn, from journal.Ref, f func(journal.Ref, []byte) error) error {
	rows, err := conn.QueryContext(ctx, "SELECT place, part, records FROM gmq_command WHERE shard = ? ORDER BY place, part", s.number)
	if err != nil {
		return err
	}
	defer rows.Close()
	var at journal.Ref // of run
	var run []byte     // the parts of a run of records
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
	s.pos = max(s.pos, from)
	return nil
}

// replayRun calls f with those records of a run that lie behind from.
func (s *Shard) replayRun(place journal.Ref, run []byte, from journal.Ref, f func(journal.Ref, []byte) error) error {
	if place == 0 {
		return nil
	}
	s.noteCommand(place, len(run))
	stubs, ref := s.j.opt.Format.NewStubs(), place
	for b := run; len(b) > 0; {
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
