// Command demo shows that nothing is lost: it starts a broker, the web tier
// and three workers, sends them real files, kills the workers and the broker
// in the middle of it, starts them again, and compares what came out with what
// went in.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var (
		dir     = flag.String("dir", ".", "folder whose files are sent")
		most    = flag.Int("max", 2000, "files to send at most")
		workers = flag.Int("workers", 3, "worker processes")
		timeout = flag.Duration("timeout", 3*time.Minute, "for everything together")
		keep    = flag.Bool("keep", false, "keep the temporary directory with data and logs")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if err := run(ctx, *dir, *most, *workers, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, most, workers int, keep bool) error {
	files, err := listFiles(dir, most)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("there are no files in %s", dir)
	}
	tmp, err := os.MkdirTemp("", "gmq-fileflow-")
	if err != nil {
		return err
	}
	p := newProgress(len(files))
	s := &stage{tmp: tmp, failed: make(chan error, 16)}
	started := time.Now()
	err = play(ctx, s, p, files, workers)
	s.stop()
	p.end()
	if err == nil {
		err = report(s, files, time.Since(started))
	}
	if err != nil || keep {
		fmt.Fprintln(os.Stderr, "data and logs are in", tmp)
		return err
	}
	return os.RemoveAll(tmp)
}
