package cluster

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
)

const benchShards, benchInflight = 16, 1024

// BenchmarkGroups commits entries of 128 bytes with 1024 in flight, over all shards: three nodes in this process, each with a log that it
// syncs; a group of one; a node alone; and, for comparison in the same run, a bare loop that appends and syncs.
func BenchmarkGroups(b *testing.B) {
	for _, c := range []struct {
		name         string
		nodes, batch int
	}{
		{"nodes=3/batch=1", 3, 1}, {"nodes=3/batch=16", 3, 16}, {"nodes=3/batch=64", 3, 64},
		{"group-of-one/batch=1", 1, 1}, {"alone/batch=1", 0, 1}, {"alone/batch=16", 0, 16},
	} {
		b.Run(c.name, func(b *testing.B) { benchGroups(b, c.nodes, c.batch) })
	}
	b.Run("bare/group=1024", benchBare)
}

func benchGroups(b *testing.B, nodes, batch int) {
	r := openRig(b, tempDirs(b), max(nodes, 1), benchShards, filejournal.Options{Sync: true})
	for i, n := range r.nodes {
		n.run()
		for shard := range benchShards {
			if i > 0 {
				n.follow(shard)
			}
		}
	}
	first := r.nodes[0]
	var journals []journal.Journal
	var wakes []chan struct{}
	for shard := range benchShards {
		woken := make(chan struct{}, 1)
		j := first.journal(shard, func() { signal(woken) })
		err := j.Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { return nil })
		if err == nil && nodes > 0 {
			err = j.Begin(r.voters())
		}
		if err != nil {
			b.Fatal(err)
		}
		if nodes > 0 {
			first.lead(j, woken)
		}
		journals, wakes = append(journals, j), append(wakes, woken)
	}
	b.SetBytes(128)
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan error, benchShards)
	for shard := range benchShards {
		go func() { done <- benchShard(journals[shard], wakes[shard], b.N/benchShards, batch) }()
	}
	for range benchShards {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	if err := r.close(); err != nil {
		b.Fatal(err)
	}
}

// benchShard keeps so many records in flight that all shards together have benchInflight.
func benchShard(j journal.Journal, woken <-chan struct{}, n, size int) error {
	var free []*journal.Batch
	for range max(benchInflight/benchShards/size, 1) {
		b := &journal.Batch{Owner: j}
		for range size {
			start := len(b.Data)
			b.Data = append(journal.BeginRecord(b.Data), make([]byte, 128)...)
			journal.EndRecord(b.Data, start)
		}
		free = append(free, b)
	}
	all := len(free)
	for sent := 0; sent < n || len(free) < all; {
		for len(free) > 0 && sent < n {
			b := free[len(free)-1]
			free = free[:len(free)-1]
			j.Propose(b)
			sent += size
		}
		before := len(free)
		free = j.Committed(free)
		for _, b := range free[before:] {
			if b.Err != nil {
				return b.Err
			}
		}
		if _, ok := j.Compact(); ok {
			j.Snapshot().Commit()
		}
		if len(free) == before && (len(free) == 0 || sent >= n) && len(free) < all {
			<-woken
		}
		if err := j.Failed(); err != nil {
			return err
		}
	}
	return nil
}

// benchBare appends 1024 records at a time to a file that has its blocks, and syncs.
func benchBare(b *testing.B) {
	fs, dir := tempDirs(b)(0)
	f, err := fs.Create(dir)
	const size = 16 << 20
	if err == nil {
		_, err = f.WriteAt(make([]byte, size), 0)
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 140*benchInflight)
	b.SetBytes(128)
	b.ResetTimer()
	at := int64(0)
	for n := 0; n < b.N; n += benchInflight {
		if at+int64(len(data)) > size {
			at = 0
		}
		_, err := f.WriteAt(data, at)
		if err = errors.Join(err, f.Sync()); err != nil {
			b.Fatal(err)
		}
		at += int64(len(data))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	if err := f.Close(); err != nil && err != io.EOF {
		b.Fatal(fmt.Errorf("closing: %w", err))
	}
}
