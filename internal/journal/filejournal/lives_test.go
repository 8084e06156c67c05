package filejournal

import (
	"testing"
	"testing/synctest"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/journaltest"
	"github.com/gmq/gmq/internal/vfs"
)

// A process that is killed again and again, each time before it has written enough for a
// compaction, still gives back what nobody needs.
func TestShortLivesCompact(t *testing.T) {
	synctest.Test(t, shortLives)
}

func shortLives(t *testing.T) {
	disk := vfs.NewMem()
	opt := Options{Sync: true, Shards: 1, SegmentBytes: 64 << 10, CompactSlack: 128 << 10, CompactEvery: 64 << 10}
	const perLife = 32 << 10 // half of CompactEvery
	worst := int64(0)
	for range 40 {
		log, err := Open(disk, "data", opt)
		if err != nil {
			t.Fatal(err)
		}
		woken := make(chan struct{}, 1)
		j := log.Shard(0, func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
		if err := j.Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
		for written := 0; written < perLife; {
			data := append(journal.BeginRecord(nil), make([]byte, 1000)...)
			journal.EndRecord(data, 0)
			written += len(data)
			j.Propose(&journal.Batch{Data: data})
			for got := j.Committed(nil); len(got) == 0; got = j.Committed(nil) {
				<-woken
			}
			synctest.Wait() // the keeper has looked: a life is short of work here, not of time
			if _, ok := j.Compact(); ok {
				journaltest.Snapshot(j, nil)
			}
		}
		synctest.Wait()
		used, _ := j.Used()
		worst = max(worst, used)
		disk = disk.Kill()
		log.Close()
	}
	if limit := opt.CompactSlack + 8*opt.SegmentBytes; worst > limit {
		t.Errorf("the log took %d bytes of which none were needed; %d would do", worst, limit)
	}
}
