// Command web receives files over HTTP, keeps them, and posts a message for
// each.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/examples/fileflow/internal/flow"
)

func main() {
	var (
		listen   = flag.String("listen", "127.0.0.1:8080", "address to serve HTTP on")
		store    = flag.String("store", "store", "directory for the files")
		addr     = flag.String("gmq", "127.0.0.1:4567", "address of the broker")
		maxBytes = flag.Int64("max-bytes", 64<<20, "the largest file to take")
		confirm  = flag.Duration("confirm", 2*time.Second, "how long an upload waits for the broker before it is answered with 202")
	)
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(log, *listen, *store, *addr, *maxBytes, *confirm); err != nil {
		log.Error("web", "error", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger, listen, store, addr string, maxBytes int64, confirm time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Lazy: the web tier starts and takes files whether or not the broker is there.
	c, err := gmq.Dial(ctx, addr, gmq.ClientName("fileflow-web"), gmq.Lazy(), gmq.Logger(log),
		gmq.Backoff(50*time.Millisecond, time.Second))
	if err != nil {
		return err
	}
	defer c.Close()
	q := c.Queue(flow.Queue)
	box, err := openOutbox(store, log, func(ctx context.Context, job flow.Job) error {
		_, err := q.Send(ctx, job)
		return err
	})
	if err != nil {
		return err
	}
	boxDone := make(chan struct{})
	boxCtx, stopBox := context.WithCancel(context.Background())
	go func() { defer close(boxDone); box.run(boxCtx) }()
	defer func() { stopBox(); <-boxDone }()

	srv := &http.Server{
		Addr:              listen,
		Handler:           (&web{store: store, box: box, maxBytes: maxBytes, confirm: confirm, log: log}).handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	log.Info("ready", "listen", listen, "store", store)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop() // a second signal ends the process at once
	last, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(last); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
