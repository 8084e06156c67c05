package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/gmq/gmq/examples/fileflow/internal/flow"
)

// A web is the HTTP side. It owns no state: files are the store's, messages
// the outbox's.
type web struct {
	store    string
	box      *outbox
	maxBytes int64
	confirm  time.Duration
	log      *slog.Logger
}

func (w *web) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /files/{name...}", w.upload)
	mux.HandleFunc("PUT /files/{name...}", w.upload)
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNoContent) })
	return mux
}

// upload keeps the file, then posts the message. It answers 201 when the
// broker has confirmed the message, and 202 when it has not yet: the file is
// safe either way, and its message will follow.
func (w *web) upload(rw http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !flow.ValidName(name) {
		http.Error(rw, "that is no name for a file", http.StatusBadRequest)
		return
	}
	if r.ContentLength > w.maxBytes {
		http.Error(rw, "the file is too large", http.StatusRequestEntityTooLarge)
		return
	}
	job := flow.Job{ID: flow.NewID(), File: name, Received: time.Now().UTC()}
	// The path is our own making, so no name can lead anywhere.
	job.Path = job.ID
	n, err := flow.Create(filepath.Join(w.store, job.Path), http.MaxBytesReader(rw, r.Body, w.maxBytes))
	if err != nil {
		w.refuse(rw, name, err)
		return
	}
	job.Bytes = n
	if err := w.box.put(job); err != nil {
		_ = os.Remove(filepath.Join(w.store, job.Path))
		w.refuse(rw, name, err)
		return
	}
	// The sender's going away is no reason to leave the message unsent.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), w.confirm)
	defer cancel()
	status := http.StatusCreated
	if err := w.box.post(ctx, job); err != nil {
		w.log.Warn("the message will follow", "file", name, "id", job.ID, "error", err)
		status = http.StatusAccepted
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(job)
}

func (w *web) refuse(rw http.ResponseWriter, name string, err error) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		http.Error(rw, "the file is too large", http.StatusRequestEntityTooLarge)
		return
	}
	w.log.Error("cannot keep a file", "file", name, "error", err)
	http.Error(rw, "the file could not be kept", http.StatusInternalServerError)
}
