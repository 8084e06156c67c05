package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gmq/gmq/examples/fileflow/internal/flow"
)

func TestAnalyse(t *testing.T) {
	tests := []struct {
		name, body   string
		mime         string
		lines, words int64
	}{
		{"empty", "", "text/plain; charset=utf-8", 0, 0},
		{"a.txt", "one two\nthree\n", "text/plain; charset=utf-8", 2, 3},
		{"a.txt", "no end of line", "text/plain; charset=utf-8", 1, 4},
		{"a.txt", "wide\u2003space é\xff", "text/plain; charset=utf-8", 1, 3},
		{"a.html", "<!DOCTYPE html>\n<p>x", "text/html; charset=utf-8", 2, 3},
		{"a.png", "\x89PNG\r\n\x1a\n\x00 a b", "image/png", 0, 0},
		{"long.txt", strings.Repeat("word ", 50000), "text/plain; charset=utf-8", 1, 50000},
	}
	for _, test := range tests {
		res, err := analyse(test.name, strings.NewReader(test.body))
		sum := sha256.Sum256([]byte(test.body))
		if err != nil || res.Type != test.mime || res.Lines != test.lines || res.Words != test.words ||
			res.Bytes != int64(len(test.body)) || res.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %+v, %v", test.name, res, err)
		}
	}
}

func TestDoIsIdempotent(t *testing.T) {
	store, results := t.TempDir(), t.TempDir()
	w, err := newWorker(store, results, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer w.store.Close()
	if err := os.WriteFile(filepath.Join(store, "id1"), []byte("hello you"), 0o644); err != nil {
		t.Fatal(err)
	}
	job := flow.Job{ID: "id1", File: "a.txt", Path: "id1", Bytes: 9}
	for range 3 {
		if err := w.do(job); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(filepath.Join(results, "id1.json"))
	var res flow.Result
	if err != nil || json.Unmarshal(raw, &res) != nil || res.Words != 2 || res.File != "a.txt" {
		t.Fatalf("%s, %v", raw, err)
	}
	if list, _ := os.ReadFile(filepath.Join(results, again)); string(list) != "id1\nid1\n" {
		t.Fatalf("delivered again: %q", list)
	}
}

func TestDoRefuses(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	if err := os.Mkdir(store, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"store/short", "outside"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("abc"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w, err := newWorker(store, filepath.Join(dir, "results"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer w.store.Close()
	for name, job := range map[string]flow.Job{
		"wrong size": {ID: "1", Path: "short", Bytes: 4},
		"not there":  {ID: "2", Path: "nothing"},
		"outside":    {ID: "3", Path: "../outside", Bytes: 3},
		"bad id":     {ID: "../4", Path: "short", Bytes: 3},
	} {
		if err := w.do(job); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if entries, _ := os.ReadDir(w.results); len(entries) != 0 {
		t.Errorf("results: %v", entries)
	}
}
