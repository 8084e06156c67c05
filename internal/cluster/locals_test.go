package cluster

import (
	"slices"
	"testing"

	"github.com/gmq/gmq/internal/journal"
)

// What this node alone has kept comes to the owner behind the entries that a restart takes before it, though the log tells both at once: an entry may have given
// the message another place, and a restart would not find it where it is said to lie elsewhere now.
func TestMovesComeBehindWhatIsDecided(t *testing.T) {
	c := newTrio(t)
	j, log, h := c.journals[1], c.logs[1], c.hosts[1]
	c.hangs = 1
	for _, text := range []string{"a message moves", "the next one says that this is committed"} {
		c.journals[0].Propose(batchOf(text))
		c.run()
	}
	b := batchOf("it lies elsewhere")
	b.Local, b.Parts = true, []journal.Part{{End: len(b.Data)}}
	j.Propose(b)
	log.records = nil
	for len(log.appended) > 0 {
		log.answer(nil)
	}
	h.Turn()
	var told []string
	for _, b := range j.Committed(nil) {
		payload, _ := journal.NextRecord(b.Data, 0)
		told = append(told, string(payload))
	}
	if want := []string{"a message moves", "it lies elsewhere"}; len(told) < 2 || !slices.Equal(told[:2], want) {
		t.Errorf("the owner is told %q, want %q first", told, want)
	}
	if !h.groups[0].idle() {
		t.Error("all has been told, and something is still on its way")
	}

	var again []string
	p := &replayer{st: &storage{base: originIndex + 1, baseTerm: 2}, founded: true, applied: originIndex + 1, record: func(_ journal.Ref, payload []byte) error {
		again = append(again, string(payload))
		return nil
	}}
	for _, r := range log.records {
		if err := p.next(r.ref, r.mark, r.payload); err != nil {
			t.Fatal(err)
		}
	}
	if len(again) < 2 || !slices.Equal(again[:2], told[:2]) {
		t.Errorf("a restart takes %q, the owner was told %q", again, told)
	}
}
