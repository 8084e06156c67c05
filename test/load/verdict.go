package load

import "fmt"

// A Verdict is what is said at the end, of one ledger or of several together.
type Verdict struct {
	Confirmed, Delivered, Redone, Stored, Dead int
	Refused                                    int // publishers were told so, and it was true
	Unanswered                                 int // published, never confirmed, never delivered: what an end may cost

	Lost        int // confirmed or delivered, not acked, and gone
	Resurrected int // delivered after a confirmed ack
	Damaged     int // delivered with bytes that nobody published
}

func (v Verdict) String() string {
	return fmt.Sprintf("confirmed %d, delivered %d, duplicates %d, dead %d, refused %d, unanswered and not stored %d, lost %d, resurrected %d, damaged %d",
		v.Confirmed, v.Delivered, v.Redone, v.Dead, v.Refused, v.Unanswered, v.Lost, v.Resurrected, v.Damaged)
}

// And adds what another ledger says.
func (v Verdict) And(w Verdict) Verdict {
	return Verdict{v.Confirmed + w.Confirmed, v.Delivered + w.Delivered, v.Redone + w.Redone, v.Stored + w.Stored, v.Dead + w.Dead,
		v.Refused + w.Refused, v.Unanswered + w.Unanswered, v.Lost + w.Lost, v.Resurrected + w.Resurrected, v.Damaged + w.Damaged}
}

// Close judges what only the end shows: losses, order, and how many messages there must have been.
func (l *Ledger) Close() Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := Verdict{Confirmed: l.counts.Confirmed, Refused: l.counts.Refused, Redone: l.redone, Resurrected: l.resurrects, Damaged: l.damaged}
	for p, entries := range l.of {
		last := uint64(0)
		for n := range entries {
			e := &entries[n]
			l.closeEntry(&v, p, n, e)
			if e.seq == 0 {
				continue
			}
			v.Stored++
			if e.seq <= last {
				l.fault("message %d/%d has seq %d; one published before it has %d", p, n, e.seq, last)
			}
			last = e.seq
		}
	}
	return v
}

func (l *Ledger) closeEntry(v *Verdict, p, n int, e *entry) {
	mortal := l.fate(n) == Refuse || l.fate(n) == Bury
	switch {
	case e.confirmed != 0 && e.delivered == 0:
		v.Lost++
		l.fault("message %d/%d (seq %d) was confirmed in life %d and never delivered", p, n, e.seq, e.confirmed)
	case e.delivered != 0 && !mortal && !e.settling:
		v.Lost++
		l.fault("message %d/%d (seq %d) was delivered in life %d and gone before an ack was sent", p, n, e.seq, e.delivered)
	case e.delivered != 0 && mortal && !e.dead:
		v.Lost++
		l.fault("message %d/%d (seq %d) should be a dead letter and is not", p, n, e.seq)
	case e.delivered == 0 && !e.refused:
		v.Unanswered++
	}
	if e.delivered != 0 {
		v.Delivered++
	}
	if e.dead {
		v.Dead++
	}
}
