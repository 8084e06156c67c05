// Command worker takes the messages of the web tier, analyses the files and
// writes down what they are.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/examples/fileflow/internal/flow"
)

func main() {
	var (
		store   = flag.String("store", "store", "directory of the files")
		results = flag.String("results", "results", "directory for the results")
		addr    = flag.String("gmq", "127.0.0.1:4567", "address of the broker")
		n       = flag.Int("n", 4, "files to analyse at a time")
	)
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(log, *store, *results, *addr, *n); err != nil {
		log.Error("worker", "error", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger, store, results, addr string, n int) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w, err := newWorker(store, results, log)
	if err != nil {
		return err
	}
	defer w.store.Close()
	c, err := gmq.Dial(ctx, addr, gmq.ClientName("fileflow-worker"), gmq.Lazy(), gmq.Logger(log),
		gmq.Backoff(50*time.Millisecond, time.Second))
	if err != nil {
		return err
	}
	defer c.Close()
	log.Info("ready", "results", results)
	return c.Queue(flow.Queue).Work(ctx, n, func(_ context.Context, m *gmq.Message) error {
		var job flow.Job
		if err := m.Decode(&job); err != nil {
			return gmq.Reject(err)
		}
		return w.do(job)
	})
}

// A worker turns jobs into results. Its state is the directory of results, so
// that any number of workers may be killed and started again.
type worker struct {
	store   *os.Root // nothing outside can be named
	results string
	log     *slog.Logger
}

func newWorker(store, results string, log *slog.Logger) (*worker, error) {
	if err := os.MkdirAll(results, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(store)
	if err != nil {
		return nil, err
	}
	return &worker{store: root, results: results, log: log}, nil
}

// do analyses a file, once: a message that comes again finds the result there
// and only leaves a line in the list of repetitions.
func (w *worker) do(job flow.Job) error {
	if !flow.ValidName(job.ID) || filepath.Base(job.ID) != job.ID {
		return gmq.Reject(fmt.Errorf("%q is no id", job.ID))
	}
	path := filepath.Join(w.results, job.ID+".json")
	if _, err := os.Stat(path); err == nil {
		return w.again(job)
	}
	res, err := w.analyse(job)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(res)
	if err != nil {
		return err
	}
	_, err = flow.Create(path, bytes.NewReader(append(raw, '\n')))
	if errors.Is(err, fs.ErrExist) { // another worker was faster
		return w.again(job)
	}
	return err
}

func (w *worker) analyse(job flow.Job) (flow.Result, error) {
	f, err := w.store.Open(job.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return flow.Result{}, gmq.Reject(err) // waiting does not bring it back
	}
	if err != nil {
		return flow.Result{}, err
	}
	defer f.Close()
	res, err := analyse(job.File, f)
	if err != nil {
		return flow.Result{}, err
	}
	if res.Bytes != job.Bytes {
		return flow.Result{}, fmt.Errorf("%s has %d bytes, not %d", job.Path, res.Bytes, job.Bytes)
	}
	res.ID, res.Worker = job.ID, os.Getpid()
	return res, nil
}

// Again is the list of messages that were delivered more than once: a line
// each, written in one piece, so that workers may share it.
const again = "again.txt"

func (w *worker) again(job flow.Job) error {
	w.log.Info("delivered again", "id", job.ID, "file", job.File)
	f, err := os.OpenFile(filepath.Join(w.results, again), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(job.ID + "\n")
	return errors.Join(err, f.Close())
}
