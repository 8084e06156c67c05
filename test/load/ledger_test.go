package load

import (
	"encoding/json"
	"strings"
	"testing"
)

// A ledger that does not see a fault proves nothing by its silence: each history but the first ones has one.
func TestLedgerFinds(t *testing.T) {
	d := func(n, attempt int) delivery {
		return delivery{n: n, seq: uint64(n + 1), attempt: attempt, receipt: "r"}
	}
	whole := func(l *Ledger, n int) { // one message's good life
		l.next(0)
		l.confirm(1, 0, n, uint64(n+1))
		l.deliver(1, d(n, 1), false)
		l.ackSent([]delivery{d(n, 1)})
		l.ackSeen(1, []delivery{d(n, 1)}, nil)
	}
	for _, h := range []struct {
		name  string
		fate  Fate
		play  func(l *Ledger)
		fault string // a part of the only one; "": there is none
		want  Verdict
	}{
		{"all is well", Accept, func(l *Ledger) { whole(l, 0); whole(l, 1) }, "", Verdict{Confirmed: 2, Delivered: 2, Stored: 2}},
		{"unanswered and gone", Accept, func(l *Ledger) { l.next(0) }, "", Verdict{Unanswered: 1}},
		{"unanswered and there", Accept, func(l *Ledger) {
			l.next(0)
			l.deliver(2, d(0, 1), true)
			l.ackSent([]delivery{d(0, 1)})
		}, "", Verdict{Delivered: 1, Stored: 1}},
		{"its ack unanswered, and back", Accept, func(l *Ledger) {
			l.next(0)
			l.confirm(1, 0, 0, 1)
			l.deliver(1, d(0, 1), false)
			l.ackSent([]delivery{d(0, 1)})
			l.deliver(2, d(0, 1), true)
		}, "", Verdict{Confirmed: 1, Delivered: 1, Redone: 1, Stored: 1}},
		{"an ack that came too late, and back", Accept, func(l *Ledger) {
			l.next(0)
			l.confirm(1, 0, 0, 1)
			l.deliver(1, d(0, 1), false)
			l.ackSent([]delivery{d(0, 1)})
			l.ackSeen(1, []delivery{d(0, 1)}, []uint64{1})
			l.deliver(2, d(0, 1), true)
		}, "", Verdict{Confirmed: 1, Delivered: 1, Redone: 1, Stored: 1}},
		{"confirmed when the life was over", Accept, func(l *Ledger) {
			l.next(0)
			l.Over(1)
			l.Gone()
			l.confirm(1, 0, 0, 1)
			l.deliver(1, d(0, 1), false)
		}, "", Verdict{Unanswered: 1}},

		{"confirmed and gone", Accept, func(l *Ledger) {
			whole(l, 0)
			l.next(0)
			l.confirm(1, 0, 1, 2)
		}, "0/1 (seq 2) was confirmed in life 1 and never delivered", Verdict{Confirmed: 2, Delivered: 1, Stored: 2, Lost: 1}},
		{"confirmed, delivered and gone", Accept, func(l *Ledger) {
			l.next(0)
			l.confirm(1, 0, 0, 1)
			l.deliver(1, d(0, 1), false)
		}, "gone before an ack was sent", Verdict{Confirmed: 1, Delivered: 1, Stored: 1, Lost: 1}},
		{"acked and back", Accept, func(l *Ledger) {
			whole(l, 0)
			l.deliver(2, d(0, 1), true)
		}, "its ack was confirmed in life 1", Verdict{Confirmed: 1, Delivered: 1, Redone: 1, Stored: 1, Resurrected: 1}},
		{"delivered again before its late ack was seen", Accept, func(l *Ledger) {
			l.next(0)
			l.confirm(1, 0, 0, 1)
			l.deliver(1, d(0, 1), false)
			l.ackSent([]delivery{d(0, 1)})
			l.deliver(2, d(0, 1), true)
			l.ackSeen(1, []delivery{d(0, 1)}, nil)
		}, "its ack was confirmed in life 1", Verdict{Confirmed: 1, Delivered: 1, Redone: 1, Stored: 1, Resurrected: 1}},
		{"twice at a time", Accept, func(l *Ledger) {
			whole(l, 0)
			l.deliver(1, d(0, 1), false)
		}, "delivered twice in life 1", Verdict{Confirmed: 1, Delivered: 1, Redone: 1, Stored: 1}},
		{"again and not marked", Accept, func(l *Ledger) {
			l.next(0)
			l.confirm(1, 0, 0, 1)
			l.deliver(2, d(0, 1), false)
			l.ackSent([]delivery{d(0, 1)})
		}, "without redelivered", Verdict{Confirmed: 1, Delivered: 1, Stored: 1}},
		{"new and marked", Accept, func(l *Ledger) {
			l.next(0)
			l.confirm(1, 0, 0, 1)
			l.deliver(1, d(0, 1), true)
			l.ackSent([]delivery{d(0, 1)})
		}, "marked redelivered in its first", Verdict{Confirmed: 1, Delivered: 1, Stored: 1}},
		{"an attempt twice", Retry, func(l *Ledger) {
			l.next(0)
			l.confirm(1, 0, 0, 1)
			l.deliver(1, d(0, 1), false)
			l.nackSeen(1, []delivery{d(0, 1)}, false)
			l.deliver(2, d(0, 1), true)
			l.ackSent([]delivery{d(0, 1)})
		}, "the nack of attempt 1 was confirmed", Verdict{Confirmed: 1, Delivered: 1, Redone: 1, Stored: 1}},
		{"refused and there", Accept, func(l *Ledger) {
			l.next(0)
			l.refuse(1, 0, 0)
			l.deliver(2, d(0, 1), true)
			l.ackSent([]delivery{d(0, 1)})
		}, "was refused, and delivered", Verdict{Delivered: 1, Refused: 1, Stored: 1}},
		{"never published", Accept, func(l *Ledger) { l.deliver(1, d(7, 1), false) }, "never published", Verdict{}},
		{"out of order", Accept, func(l *Ledger) {
			for _, n := range []int{0, 1} {
				l.next(0)
				e := delivery{n: n, seq: uint64(9 - n), attempt: 1}
				l.confirm(1, 0, n, e.seq)
				l.deliver(1, e, false)
				l.ackSent([]delivery{e})
			}
		}, "one published before it has 9", Verdict{Confirmed: 2, Delivered: 2, Stored: 2}},
		{"confirmed without a disk", Accept, func(l *Ledger) {
			l.Over(1)
			l.Gone()
			l.next(0)
			l.confirm(1, 0, 0, 1)
		}, "when the disk of that life was gone", Verdict{Unanswered: 1}},
		{"no dead letter", Bury, func(l *Ledger) {
			l.next(0)
			l.confirm(1, 0, 0, 1)
			l.deliver(1, d(0, 1), false)
			l.nackSeen(1, []delivery{d(0, 1)}, true)
		}, "should be a dead letter", Verdict{Confirmed: 1, Delivered: 1, Stored: 1, Lost: 1}},
		{"a dead letter too soon", Refuse, func(l *Ledger) {
			l.next(0)
			l.confirm(1, 0, 0, 1)
			l.deliver(1, d(0, 1), false)
			l.buried(0, 0, 1)
		}, "after 1 attempts, not 3", Verdict{Confirmed: 1, Delivered: 1, Stored: 1, Dead: 1}},
		{"other bytes", Accept, func(l *Ledger) {
			whole(l, 0)
			l.identify(json.RawMessage(strings.Replace(l.body(0, 0), `"pad":"`, `"pad":"~`, 1)), 1)
		}, "differs from byte 20 on", Verdict{Confirmed: 1, Delivered: 1, Stored: 1, Damaged: 1}},
		{"half of its bytes", Accept, func(l *Ledger) { whole(l, 0); l.identify(json.RawMessage(`{"p":0,"n":0}`), 1) },
			"differs from byte 12 on", Verdict{Confirmed: 1, Delivered: 1, Stored: 1, Damaged: 1}},
		{"somebody else's bytes", Accept, func(l *Ledger) { whole(l, 0); l.identify(json.RawMessage(`{"hello":1}`), 1) },
			"never published", Verdict{Confirmed: 1, Delivered: 1, Stored: 1, Damaged: 1}},
	} {
		t.Run(h.name, func(t *testing.T) {
			l := NewLedger(Kind{Queue: "q", Publishers: 1, Room: 10, MaxDeliveries: 3, Size: Small, Fate: func(int) Fate { return h.fate }})
			h.play(l)
			if got := l.Close(); got != h.want {
				t.Errorf("got  %+v\nwant %+v", got, h.want)
			}
			faults, n := l.Faults()
			switch {
			case h.fault == "" && n > 0:
				t.Errorf("a fault that is none: %v", faults)
			case h.fault != "" && (n != 1 || !strings.Contains(faults[0], h.fault)):
				t.Errorf("wanted the fault %q, not %d: %v", h.fault, n, faults)
			}
		})
	}
}

// Publishers wait for room, which only what was confirmed takes and settling gives back.
func TestRoom(t *testing.T) {
	l := NewLedger(Kind{Queue: "q", Publishers: 1, Fate: Accepted, Size: Small, Room: 2})
	for n := range 6 {
		l.next(0)
		e := []delivery{{n: n, seq: uint64(n + 1), attempt: 1}}
		switch n {
		case 0, 1: // never confirmed, which takes no room; nor does its ack give any
			l.deliver(1, e[0], false)
			l.ackSeen(1, e, nil)
		case 2: // acked before its confirm was seen
			l.ackSeen(1, e, nil)
			l.confirm(1, 0, n, e[0].seq)
		default:
			l.confirm(1, 0, n, e[0].seq)
		}
	}
	if l.open != 3 {
		t.Errorf("%d messages take room, not 3", l.open)
	}
}

func TestBodiesAreTheirOwn(t *testing.T) {
	l := NewLedger(Kind{Queue: "q", Publishers: 4, Size: Large})
	for p := range 4 {
		for n := range 200 {
			body := l.body(p, n)
			if gotP, gotN, ok := l.identify(json.RawMessage(body), 1); !ok || gotP != p || gotN != n {
				t.Fatalf("body of %d/%d is taken for that of %d/%d, %v", p, n, gotP, gotN, ok)
			}
		}
	}
}
