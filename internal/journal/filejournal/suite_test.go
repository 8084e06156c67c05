package filejournal

import (
	"testing"

	"github.com/gmq/gmq/internal/journal/journaltest"
	"github.com/gmq/gmq/internal/vfs"
)

func TestSuite(t *testing.T) {
	small := Options{Sync: true, SegmentBytes: 1 << 20, CacheBytes: 2 << 20, CompactSlack: 4 << 20, CompactEvery: 2 << 20}
	if testing.Short() { // the race detector looks at who meets whom, not at how many bytes it takes until a log is compacted
		small.SegmentBytes, small.CacheBytes, small.CompactSlack, small.CompactEvery = small.SegmentBytes/4, small.CacheBytes/4, small.CompactSlack/4, small.CompactEvery/4
	}
	unsynced := small
	unsynced.Sync = false
	skimmed := small
	skimmed.indexBytes = 1
	for _, c := range []struct {
		name string
		fs   func() vfs.FS
		opt  Options
	}{
		{"memory file system", func() vfs.FS { return vfs.NewMem() }, small},
		{"real files", vfs.OS, small},
		{"without sync", vfs.OS, unsynced},
		{"replayed without an index", vfs.OS, skimmed},
	} {
		t.Run(c.name, func(t *testing.T) {
			journaltest.Run(t, func(t *testing.T) *journaltest.Harness {
				dir := "/data"
				if _, real := c.fs().(*vfs.Mem); !real {
					dir = t.TempDir()
				}
				return harness(t, c.fs(), dir, c.opt)
			})
		})
	}
}

func harness(t *testing.T, fs vfs.FS, dir string, opt Options) *journaltest.Harness {
	t.Helper()
	opt.Shards = 4
	opt.Logf = t.Logf
	l, err := Open(fs, dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return &journaltest.Harness{
		Shards:  4,
		Journal: l.Shard,
		Close:   l.Close,
		Reopen:  func(t *testing.T) *journaltest.Harness { return harness(t, fs, dir, opt) },
	}
}
