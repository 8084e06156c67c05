package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gmq/gmq/examples/fileflow/internal/flow"
)

// A broker takes messages, or does not.
type broker struct {
	sent chan flow.Job
	away chan struct{} // closed when it comes back; nil is always there
}

func (b *broker) send(ctx context.Context, job flow.Job) error {
	if b.away != nil {
		select {
		case <-b.away:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.sent <- job
	return nil
}

func newWeb(t *testing.T, b *broker) (*web, http.Handler) {
	t.Helper()
	dir := t.TempDir()
	box, err := openOutbox(dir, slog.New(slog.DiscardHandler), b.send)
	if err != nil {
		t.Fatal(err)
	}
	w := &web{store: dir, box: box, maxBytes: 10, log: box.log}
	w.confirm = 1 // a nanosecond: a broker that is away is given up at once
	return w, w.handler()
}

func put(h http.Handler, path, body string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("PUT", path, strings.NewReader(body)))
	return rec
}

func notes(t *testing.T, w *web) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.store, "outbox"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestUploadIsKeptThenPosted(t *testing.T) {
	b := &broker{sent: make(chan flow.Job, 1)}
	w, h := newWeb(t, b)
	rec := put(h, "/files/dir/a.txt", "hello")
	if rec.Code != http.StatusCreated {
		t.Fatal(rec.Code, rec.Body)
	}
	job := <-b.sent
	var told flow.Job
	if err := json.Unmarshal(rec.Body.Bytes(), &told); err != nil || told != job || job.File != "dir/a.txt" || job.Bytes != 5 {
		t.Fatalf("posted %+v, told %+v", job, told)
	}
	if kept, err := os.ReadFile(filepath.Join(w.store, job.Path)); err != nil || string(kept) != "hello" {
		t.Fatalf("%q, %v", kept, err)
	}
	if n := notes(t, w); n != 0 {
		t.Fatalf("%d notes left", n)
	}
}

func TestBadUploads(t *testing.T) {
	b := &broker{sent: make(chan flow.Job, 1)}
	w, h := newWeb(t, b)
	for path, want := range map[string]int{
		"/files/%2e%2e%2fx": http.StatusBadRequest,
		"/files/%2fetc":     http.StatusBadRequest,
		"/files/a%00b":      http.StatusBadRequest,
		"/files/":           http.StatusBadRequest,
		"/files/big":        http.StatusRequestEntityTooLarge,
	} {
		if rec := put(h, path, strings.Repeat("x", 11)); rec.Code != want {
			t.Errorf("%s: %d, want %d", path, rec.Code, want)
		}
	}
	r := httptest.NewRequest("PUT", "/files/big", strings.NewReader(strings.Repeat("x", 11)))
	r.ContentLength = -1 // it does not say beforehand
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, r); rec.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a stream: %d", rec.Code)
	}
	if entries, _ := os.ReadDir(w.store); len(entries) != 1 { // the outbox
		t.Errorf("left behind: %v", entries)
	}
}

func TestBrokerAway(t *testing.T) {
	b := &broker{sent: make(chan flow.Job), away: make(chan struct{})}
	w, h := newWeb(t, b)
	for range 3 {
		if rec := put(h, "/files/a", "x"); rec.Code != http.StatusAccepted {
			t.Fatal(rec.Code, rec.Body)
		}
	}
	if n := notes(t, w); n != 3 {
		t.Fatalf("%d notes", n)
	}
	// Another process finds the notes, and sends them once the broker is back.
	box, err := openOutbox(w.store, w.log, b.send)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); box.run(ctx) }()
	close(b.away)
	seen := map[string]bool{}
	for range 3 {
		seen[(<-b.sent).ID] = true
	}
	if err := box.put(flow.Job{ID: "last"}); err != nil {
		t.Fatal(err)
	}
	box.later(flow.Job{ID: "last"})
	<-b.sent // the three are confirmed by now
	cancel()
	<-ended
	if len(seen) != 3 {
		t.Fatalf("sent %v", seen)
	}
	for id := range seen {
		if _, err := os.Stat(box.note(flow.Job{ID: id})); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still noted", id)
		}
	}
}
