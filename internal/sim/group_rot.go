package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/gmq/gmq/internal/wal"
)

// A byte of a member's log changes while no process runs. It lies in front of what the process before found on the disk when it began: so it was synced, and
// what was written later says so. Such a log must not be taken for one that was cut short: its member would have forgotten what it has promised.

// decay has a process end, and the next one soon after it has begun; the one after that finds another byte than was written.
func (m *member) decay() {
	w := m.c.w
	if m.life == nil || m.c.cfg.Memory {
		return
	}
	m.quick = true
	m.die(false)
	w.after(w.between(30*time.Millisecond, 400*time.Millisecond), func() {
		if m.life != nil && m.life.log != nil && m.flip == nil && !m.c.peace {
			m.found, m.decays = m.life.log.Recovered(), true
			m.die(false)
		}
	})
}

// rot changes the byte, if anything was written since. It is called when a process begins.
func (m *member) rot() {
	name := fmt.Sprintf("data/wal/%010d.seg", m.found.Segment)
	if !m.decays || m.found.End <= wal.PageBytes {
		m.decays = false
		return
	}
	m.decays = false
	f, err := m.disk.Open(name)
	if err != nil {
		return // it was given back
	}
	defer f.Close()
	behind := make([]byte, wal.FrameBytes) // a frame says where it is: a file that is used again may hold something else there
	if n, _ := f.ReadAt(behind, m.found.End); n < len(behind) || binary.LittleEndian.Uint32(behind[16:]) != m.found.Segment || int64(binary.LittleEndian.Uint32(behind[20:])) != m.found.End {
		return
	}
	change := flip{file: name, at: wal.PageBytes + m.c.w.rng.Int64N(m.found.End-wal.PageBytes), mask: 1 << m.c.w.rng.IntN(8)}
	if m.disk.Flip(change.file, change.at, change.mask) == nil {
		m.flip = &change
		m.c.stats.Flips++
		m.c.w.note(m.name, "bits %02x of %s change at %d", change.mask, change.file, change.at)
	}
}

// restore gives the byte back.
func (m *member) restore() {
	if m.flip != nil {
		_ = m.disk.Flip(m.flip.file, m.flip.at, m.flip.mask) // the file may be gone
		m.flip = nil
	}
}

// damaged reports whether a start has come to nothing for that reason.
func (m *member) damaged(err error) bool {
	var damage *wal.Damage
	if m.flip == nil || !errors.As(err, &damage) {
		return false
	}
	m.c.stats.Damaged++
	return true
}
