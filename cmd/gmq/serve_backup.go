package main

import (
	"context"
	"io"
	"time"
)

// Backup implements admin.Source.
func (in *instance) Backup(ctx context.Context, w io.Writer) error {
	started := time.Now()
	info, err := in.wal.Backup(ctx, w, started, version)
	if err != nil {
		in.log.Warn("no backup was made", "err", err)
		return err
	}
	in.log.Info("a backup was made", "end", info.EndText(), "took", time.Since(started).Round(time.Millisecond).String())
	return nil
}
