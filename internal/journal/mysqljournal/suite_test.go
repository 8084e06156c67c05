package mysqljournal

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/journaltest"
	"github.com/gmq/gmq/test/mariadb"
)

func TestMain(m *testing.M) {
	mariadb.Quiet()
	os.Exit(mariadb.Main(m.Run))
}

func TestSuite(t *testing.T) {
	server := mariadb.Get(t)
	journaltest.Run(t, func(t *testing.T) *journaltest.Harness { return harness(t, server.Database(t)) })
}

func harness(t *testing.T, dsn string) *journaltest.Harness {
	t.Helper()
	p := newProxy(t, dsn)
	j := open(t, p.dsn)
	return &journaltest.Harness{
		Shards: 4,
		Away: func(away bool) {
			p.on(func(string) action { return action{cut: away} })
		},
		Journal:  j.Shard,
		Close:    j.Close,
		Reopen:   func(t *testing.T) *journaltest.Harness { return harness(t, dsn) },
		Bodiless: true,
	}
}

func open(t *testing.T, dsn string) *Journal {
	t.Helper()
	j, err := Open(t.Context(), options(t, dsn))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func options(t *testing.T, dsn string) Options {
	return Options{DSN: dsn, Shards: 4, Format: plain, Node: "test", Owner: t.Name(), CacheBytes: 1 << 20, CompactBytes: 32 << 10, MaxMessageBytes: 1 << 20, Logf: t.Logf}
}

// plain is the format of the suite's records: whatever drops something is a command, all else has a row.
var plain = Format{
	NewFollower: func() Follower { return &plainFollower{} },
	NewStubs:    func() Stubs { return &plainStubs{} },
	Parts: func(p []byte) (head, headers, body []byte, ok bool) {
		if isDrop(p) {
			return nil, nil, nil, false
		}
		return p, nil, nil, true
	},
}

func isDrop(p []byte) bool { return len(p) == 9 && p[0] == 'd' }

type plainFollower struct{ changes []Change }

func (*plainFollower) LoadSnapshot([]byte) error { return nil }

func (f *plainFollower) Apply(ref journal.Ref, _ uint32, p []byte) ([]Change, error) {
	f.changes = f.changes[:0]
	if !isDrop(p) {
		f.changes = append(f.changes, Change{Op: Insert, Ref: ref, Own: ref, Queue: "q", Seq: uint64(ref), Published: 1})
	}
	return f.changes, nil
}

// plainStubs keep the length of a record, and its first bytes.
type plainStubs struct{}

func (*plainStubs) Append(dst, p []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(p)))
	return append(dst, p[:min(len(p), 9)]...)
}

func (*plainStubs) Read(b []byte) (p, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	p = make([]byte, n)
	k += copy(p[:min(n, 9)], b[k:])
	return p, b[k:], nil
}
