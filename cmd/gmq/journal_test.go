package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJournalCommands(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("one\ntwo\nthree\n", "pub", "orders")
	s.must("", "sub", "orders", "-n", "1")
	for _, what := range []string{"check", "dump"} {
		r := s.run("", "journal", what, "--data", s.dir)
		equal(t, what+" beside a server", r.code, 1)
		contains(t, "stderr", r.err, fmt.Sprintf("is locked by process %d ", s.cmd.Process.Pid), "stop that server first")
	}
	s.stop()

	r := gmqRun(t, []string{"GMQ_DATA=" + s.dir}, "", "journal", "check")
	equal(t, "code", r.code, 0)
	contains(t, "check", r.out, "ok: ", " records (")
	var report struct {
		Records int
		Damage  []struct{ File string }
	}
	r = gmqRun(t, nil, "", "journal", "check", "--data", s.dir, "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.Records < 5 || len(report.Damage) != 0 {
		t.Errorf("check as JSON: %s, %v", r.out, err)
	}

	r = gmqRun(t, nil, "", "journal", "dump", "--data", s.dir)
	equal(t, "code", r.code, 0)
	contains(t, "dump", r.out, `create queue=`, `name="orders"`, `body="two"`, "settle queue=")
	equal(t, "lines", strings.Count(r.out, "\n"), report.Records)
	lines := 0
	for shard := range 16 {
		out := gmqRun(t, nil, "", "journal", "dump", "--data", s.dir, "--shard", fmt.Sprint(shard), "-o", "json").out
		lines += strings.Count(out, "\n")
		if out != "" {
			contains(t, "a record", out, `{"segment":`, `"record":"`, fmt.Sprintf(`"shard":%d,`, shard))
		}
	}
	equal(t, "lines of all shards", lines, report.Records)

	damage(t, s.dir)
	r = gmqRun(t, nil, "", "journal", "check", "--data", s.dir)
	equal(t, "code where there is damage", r.code, 1)
	contains(t, "stderr", r.err, filepath.Join(s.dir, "wal"), "is damaged at offset ", "damaged in 1 place")
	contains(t, "stdout", r.out, "damaged: ")
	equal(t, "code of dump where there is damage", gmqRun(t, nil, "", "journal", "dump", "--data", s.dir).code, 1)

	r = gmqRun(t, nil, "", "journal", "check", "--data", filepath.Join(s.dir, "nosuch"))
	equal(t, "code where there is no journal", r.code, 1)
	contains(t, "stderr", r.err, "holds no journal", "--data")
}

// damage changes a byte of the first message's body.
func damage(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "wal", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(data, []byte(`"one"`)); i >= 0 {
			data[i+1] ^= 1
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no file holds the message")
}
