package mysqljournal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/test/mariadb"
)

// A node of the same cluster is taken to be gone after two seconds, any other process after Takeover. Whoever is fenced by it has handed out nothing since.
func TestMates(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	p := newProxy(t, dsn)
	opt := options(t, p.dsn)
	opt.Takeover, opt.Node = time.Hour, "one"
	first, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := own(t, first)
	o.replayed()
	o.keep("one")
	first.Share()
	p.on(func(string) action { return action{cut: true} }) // it is not heard of any more
	var waited []string
	opt = options(t, dsn)
	opt.Takeover, opt.Node = time.Hour, "two"
	opt.Mate = func(node string) bool { return node == "one" }
	opt.Logf = func(format string, args ...any) { waited = append(waited, format) }
	second, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if first.tenured() {
		t.Error("another one has the tables, and the first hands out what it has")
	}
	if !strings.Contains(strings.Join(waited, ""), "waiting") {
		t.Error("the second did not wait for the first")
	}
	p.on(nil)
	if err := first.Leave(); !errors.Is(err, ErrFenced) && err != nil {
		t.Error(err)
	}
	if err := second.Leave(); err != nil {
		t.Error(err)
	}
	opt.Mate, opt.Node = nil, "three"
	third, err := Open(t.Context(), opt) // was given back: at once
	if err != nil {
		t.Fatal(err)
	}
	shut(t, third)
}

// Two ways to the same tables have the same identity, and other tables another.
func TestIdentity(t *testing.T) {
	server := mariadb.Get(t)
	dsn := server.Database(t)
	if _, err := Identify(t.Context(), dsn); err == nil || !strings.Contains(err.Error(), "no tables") {
		t.Error("an empty database: ", err)
	}
	j := open(t, dsn)
	one, err := Identify(t.Context(), newProxy(t, dsn).dsn)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := Identify(t.Context(), dsn); err != nil || same != one || len(one) != 32 {
		t.Error(one, same, err)
	}
	shut(t, j)
	other := server.Database(t)
	shut(t, open(t, other))
	if two, err := Identify(t.Context(), other); err != nil || two == one {
		t.Error(two, err)
	}
}

// Tables that say less than was committed were restored: that is no other owner.
func TestRestored(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	j := open(t, dsn)
	o := own(t, j)
	o.replayed()
	o.keep("one")
	if _, err := mariadb.Connect(t, dsn).Exec("UPDATE gmq_epoch SET commits = 0"); err != nil {
		t.Fatal(err)
	}
	b := o.propose(true, "two")
	if err := o.wait(b); !errors.Is(err, ErrRestored) || errors.Is(err, ErrFenced) {
		t.Error(err)
	}
	_ = j.Close() // it has failed, as was seen
}

// What messages of several shards share stays until all shards have said what they refer to, and goes when none does; also where a shard has proposed it
// for itself.
func TestSharedBeforeAllAreRead(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	opt := options(t, dsn)
	opt.Format = scripted
	first, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := own(t, first)
	o.replayAll()
	const bytes = "the bytes of both"
	place := first.composer.place
	b := &journal.Batch{}
	for _, r := range []string{bytes, fmt.Sprintf("insert q 1 %d", place)} {
		start := len(b.Data)
		b.Data = append(journal.BeginRecord(b.Data), r...)
		journal.EndRecord(b.Data, start)
	}
	b.Parts = []journal.Part{{Shard: journal.Nobody, End: journal.HeaderBytes + len(bytes)}, {Shard: 0, End: len(b.Data)}}
	o.s.Propose(b)
	if err := o.wait(b); err != nil || b.Base != place {
		t.Fatal(err, b.Base)
	}
	shut(t, first)
	db := mariadb.Connect(t, dsn)
	rows := func() int { return number(t, db, "SELECT COUNT(*) FROM gmq_body") }
	if n := rows(); n != 1 {
		t.Fatal(n, " rows of the bytes")
	}

	second, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	o = own(t, second)
	o.replayAll()
	span := []journal.Span{{Ref: place, Size: uint32(journal.HeaderBytes + len(bytes))}}
	o.s.Retain(span)
	o.s.Release(span) // its message is settled, and nobody knows yet of others'
	o.keep("insert q 2 0")
	if n := rows(); n != 1 {
		t.Error("the bytes are gone, and another shard may refer to them")
	}
	for _, s := range second.shards[1:] {
		s.Committed(nil)
	}
	o.keep("insert q 3 0")
	o.keep("insert q 4 0")
	if n := rows(); n != 0 {
		t.Error("nobody refers to the bytes, and they stay")
	}
	shut(t, second)
}
