package filejournal

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/vfs"
)

var update = flag.Bool("update", false, "write testdata anew")

// What is done to the disk for a new log, a first commit, the change to the
// next segment, and the end, in order: which syncs stand between which writes
// is what all promises rest on.
func TestGoldenOperations(t *testing.T) {
	mem := vfs.NewMem()
	var mu sync.Mutex
	var ops []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		ops = append(ops, fmt.Sprintf(format, args...))
	}
	mem.Fault = func(op vfs.Op) error {
		switch {
		case strings.Contains(op.Path, "spare-1"): // prepared whenever there is time
		case op.Kind == vfs.OpWrite:
			note("write %s at %d: %d bytes", op.Path, op.Offset, op.Size)
		case op.Kind == vfs.OpRename:
			note("rename %s to %s", op.Path, op.To)
		case op.Kind != vfs.OpRead && op.Kind != vfs.OpReadDir:
			note("%s %s", op.Kind, op.Path)
		}
		return nil
	}
	note("# open")
	l, err := Open(mem, "/data", Options{Sync: true, SegmentBytes: 32 << 10})
	must(t, err)
	s := l.Shard(0, func() {})
	must(t, s.Replay(nil, nil))
	commit := func(n int) {
		s.Propose(&journal.Batch{Data: record(make([]byte, n))})
		must(t, s.Close()) // waits for the outcome
	}
	note("# first commit")
	commit(1000)
	note("# the second does not fit the segment")
	commit(28000)
	note("# close")
	must(t, l.Close())

	got := strings.Join(ops, "\n") + "\n"
	name := "testdata/operations.txt"
	if *update {
		must(t, os.WriteFile(name, []byte(got), 0o600))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if got != string(want) {
		t.Errorf("the operations are not those of %s (-update writes it anew):\n%s", name, got)
	}
}
