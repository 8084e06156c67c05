package filejournal

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/journaltest"
	"github.com/gmq/gmq/internal/vfs"
)

// benchDir is on a real disk, also where the temporary directory is not.
func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp(os.Getenv("GMQ_BENCH_DIR"), "gmq-bench-")
	must(b, err)
	b.Cleanup(func() { must(b, os.RemoveAll(dir)) })
	return dir
}

// BenchmarkCommit proposes records of 128 bytes with 1024 in flight.
func BenchmarkCommit(b *testing.B) {
	for _, c := range []struct{ shards, batch int }{{1, 1}, {1, 16}, {1, 128}, {16, 1}, {16, 16}} {
		for _, sync := range []bool{true, false} {
			b.Run(fmt.Sprintf("shards=%d/batch=%d/sync=%v", c.shards, c.batch, sync), func(b *testing.B) {
				benchCommit(b, c.shards, c.batch, sync)
			})
		}
	}
}

func benchCommit(b *testing.B, shards, size int, sync bool) {
	l, err := Open(vfs.OS(), benchDir(b), Options{Sync: sync, Shards: shards})
	must(b, err)
	b.SetBytes(128)
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan error, shards)
	for i := range shards {
		go func() { done <- benchShard(l, i, b.N/shards, 1024/shards, size) }()
	}
	for range shards {
		must(b, <-done)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	must(b, l.Close())
}

func benchShard(l *Log, i, n, inflight, size int) error {
	woken := make(chan struct{}, 1)
	j := l.Shard(i, func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	var free []*journal.Batch
	for range max(inflight/size, 1) {
		b := &journal.Batch{}
		for range size {
			start := len(b.Data)
			b.Data = append(journal.BeginRecord(b.Data), make([]byte, 128)...)
			journal.EndRecord(b.Data, start)
		}
		free = append(free, b)
	}
	out, all := 0, len(free)
	for sent := 0; sent < n || out > 0; {
		for len(free) > 0 && sent < n {
			b := free[len(free)-1]
			free = free[:len(free)-1]
			j.Propose(b)
			sent += size
			out++
		}
		free = j.Committed(free)
		out = all - len(free)
		if _, ok := j.Compact(); ok && l.opt.CompactSlack < 1<<40 {
			journaltest.Snapshot(j, make([]byte, 1000))
		}
		if out > 0 && (len(free) == 0 || sent >= n) {
			<-woken
		}
		if err := j.Failed(); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkBare is what the disk does without a journal: append and sync,
// 1024 records of 140 bytes at a time, into a file that has its blocks.
func BenchmarkBare(b *testing.B) {
	for _, group := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("group=%d", group), func(b *testing.B) {
			f, err := vfs.OS().Create(filepath.Join(benchDir(b), "bare"))
			must(b, err)
			const size = 16 << 20
			must(b, f.Allocate(size))
			_, err = f.WriteAt(make([]byte, size), 0)
			must(b, err)
			must(b, f.Sync())
			data := make([]byte, 140*group)
			b.SetBytes(128)
			b.ResetTimer()
			at := int64(0)
			for n := 0; n < b.N; n += group {
				if at+int64(len(data)) > size {
					at = 0
				}
				_, err := f.WriteAt(data, at)
				must(b, err)
				must(b, f.Sync())
				at += int64(len(data))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			must(b, f.Close())
		})
	}
}

// BenchmarkRead reads from the cache, and from the files.
func BenchmarkRead(b *testing.B) {
	for _, cached := range []bool{true, false} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			opt := Options{}
			if !cached {
				opt.CacheBytes = 1
			}
			l, err := Open(vfs.OS(), benchDir(b), opt)
			must(b, err)
			var wg sync.WaitGroup
			wg.Add(1)
			j := l.Shard(0, func() {})
			var refs []journal.Ref
			const n = 100_000
			for range n / 100 {
				batch := &journal.Batch{}
				for range 100 {
					start := len(batch.Data)
					batch.Data = append(journal.BeginRecord(batch.Data), make([]byte, 128)...)
					journal.EndRecord(batch.Data, start)
				}
				j.Propose(batch)
			}
			must(b, j.Close())
			for _, batch := range j.Committed(nil) {
				for at := 0; at < len(batch.Data); at += 140 {
					refs = append(refs, batch.Base+journal.Ref(at))
				}
			}
			refs = refs[:n*9/10] // the last window is always cached
			b.SetBytes(128)
			b.ReportAllocs()
			b.ResetTimer()
			var into [][]byte
			for i := 0; i < b.N; i += 100 {
				at := i % (len(refs) - 100)
				into, err = j.Read(refs[at:at+100], into[:0])
				must(b, err)
			}
			b.StopTimer()
			must(b, l.Close())
		})
	}
}

// BenchmarkReplay opens a log of about 256 MiB with records of 16 shards, and
// replays it, two shards at a time.
func BenchmarkReplay(b *testing.B) {
	dir := benchDir(b)
	opt := Options{Shards: 16, CompactSlack: 1 << 40}
	l, err := Open(vfs.OS(), dir, opt)
	must(b, err)
	done := make(chan error, 16)
	const records = 256 << 20 / 140
	for i := range 16 {
		go func() { done <- benchShard(l, i, records/16, 64, 16) }()
	}
	for range 16 {
		must(b, <-done)
	}
	must(b, l.Close())
	b.ResetTimer()
	for range b.N {
		l, err := Open(vfs.OS(), dir, opt)
		must(b, err)
		opened := b.Elapsed()
		slots := make(chan struct{}, 2)
		n := make(chan int, 16)
		for i := range 16 {
			go func() {
				slots <- struct{}{}
				count := 0
				err := l.Shard(i, func() {}).Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { count++; return nil })
				if err != nil {
					b.Error(err)
				}
				<-slots
				n <- count
			}()
		}
		sum := 0
		for range 16 {
			sum += <-n
		}
		b.ReportMetric(float64(sum), "records")
		b.ReportMetric(opened.Seconds(), "s/open")
		must(b, l.Close())
	}
}
