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
	contains(t, "check beside a server", s.must("", "journal", "check", "--data", s.dir), "ok: ")
	contains(t, "dump beside a server", s.must("", "journal", "dump", "--contents", "--data", s.dir), `body="three"`)
	contains(t, "replay beside a server", s.must("", "journal", "replay", "--data", s.dir), "up to the end of the log:")
	r := s.run("", "journal", "repair", "--data", s.dir)
	equal(t, "code of repair beside a server", r.code, 1)
	contains(t, "stderr", r.err, fmt.Sprintf("is locked by process %d ", s.cmd.Process.Pid), "stop that server first")
	s.stop()

	r = gmqRun(t, []string{"GMQ_DATA=" + s.dir}, "", "journal", "check")
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
	contains(t, "dump", r.out, `create queue=`, `name="orders"`, "body_bytes=5", "settle queue=")
	if strings.Contains(r.out, "two") {
		t.Error("dump prints what messages hold though nobody asked for it")
	}
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

	overwrite(t, s.dir, `"one"`, 0, `"onf"`)
	r = gmqRun(t, nil, "", "journal", "check", "--data", s.dir)
	equal(t, "code where there is damage", r.code, 1)
	contains(t, "stderr", r.err, filepath.Join(s.dir, "wal"), "is damaged at offset ", "damaged in 1 place")
	contains(t, "stdout", r.out, "damaged: ")
	equal(t, "code of dump where there is damage", gmqRun(t, nil, "", "journal", "dump", "--data", s.dir).code, 1)

	r = gmqRun(t, nil, "", "journal", "check", "--data", filepath.Join(s.dir, "nosuch"))
	equal(t, "code where there is no journal", r.code, 1)
	contains(t, "stderr", r.err, "holds no journal", "--data")
}

// overwrite finds some bytes in the log and overwrites what is a number of bytes behind their beginning. It returns the
// file and the offset.
func overwrite(t *testing.T, dir, find string, behind int, with string) (file string, offset int) {
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
		if i := bytes.Index(data, []byte(find)); i >= 0 {
			copy(data[i+behind:], with)
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return name, i + behind
		}
	}
	t.Fatalf("no file holds %q", find)
	return "", 0
}

func TestJournalReplay(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("one\ntwo\nthree\n", "pub", "orders")
	s.must("", "sub", "orders", "-n", "1")
	s.must("four\n", "pub", "bills", "--delay", "1h")
	s.stop()
	var whole struct {
		Records int64
		Last    string
		End     bool
		Queues  []replayedQueue
	}
	replay := func(args ...string) {
		t.Helper()
		r := gmqRun(t, nil, "", append([]string{"journal", "replay", "--data", s.dir, "-o", "json"}, args...)...)
		whole.Queues = nil
		if err := json.Unmarshal([]byte(r.out), &whole); err != nil || r.code != 0 {
			t.Fatalf("replay %v: %d, %s, %s, %v", args, r.code, r.out, r.err, err)
		}
	}
	replay()
	all, last := whole.Records, whole.Last
	if !whole.End || len(whole.Queues) != 2 || whole.Queues[1].Ready != 2 || whole.Queues[1].Acked != 1 || whole.Queues[0].Delayed != 1 {
		t.Errorf("all of it: %+v", whole)
	}
	replay("--until", "0")
	if whole.End || whole.Records != 0 || len(whole.Queues) != 0 {
		t.Errorf("the snapshots, of which there are none: %+v", whole)
	}
	published := uint64(0)
	for n := range all {
		replay("--until", fmt.Sprint(n+1))
		sum := uint64(0)
		for _, q := range whole.Queues {
			sum += q.Published
		}
		if whole.Records != n+1 || sum < published {
			t.Errorf("until %d: %+v", n+1, whole)
		}
		published = sum
	}
	replay("--until", last)
	if whole.Records != all-1 || whole.End {
		t.Errorf("up to the last record: %+v", whole)
	}
	sum := int64(0)
	for shard := range 16 {
		replay("--shard", fmt.Sprint(shard))
		sum += whole.Records
	}
	equal(t, "records of all shards", sum, all)
	text := gmqRun(t, nil, "", "journal", "replay", "--data", s.dir, "--until", last).out
	contains(t, "replay", text, "0 snapshots and ", "QUEUE ", "orders ")

	overwrite(t, s.dir, `"two"`, 1, "???")
	r := gmqRun(t, nil, "", "journal", "replay", "--data", s.dir)
	equal(t, "code where there is damage", r.code, 1)
	contains(t, "stderr", r.err, "is damaged at offset ")
	contains(t, "stdout", r.out, " up to ")
}

func TestJournalUsage(t *testing.T) {
	t.Parallel()
	nothing := t.TempDir()
	for _, test := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"journal replay --until x", 2, "want a number of records such as 1200, or a place such as 7:20480"},
		{"journal replay --until -1", 2, "--until: want"},
		{"journal replay --until 7:x", 2, "--until: want"},
		{"journal replay --until 0:4096", 2, "--until: want"},
		{"journal replay --shard 256", 2, "--shard: want 0 to 255"},
		{"journal replay --data " + nothing, 1, "holds no journal"},
		{"journal dump --data " + nothing, 1, "holds no journal"},
		{"journal repair --data " + nothing, 1, "holds no journal"},
		{"journal repair x", 2, "usage: gmq journal repair"},
		{"journal", 2, "which of check, dump, repair, replay?"},
		{"backup", 2, "usage: gmq backup FILE"},
		{"backup x --admin off", 2, "the server's admin address is needed"},
		{"backup - -o json", 2, "which of them?"},
		{"backup x --server y", 2, "gmq backup has no use for --server"},
		{"backup /nosuch/x --admin 127.0.0.1:1", 1, "/nosuch/x"},
		{"restore x", 2, "usage: gmq restore DIR FROM"},
		{"restore " + nothing + " /nosuch/file", 1, "/nosuch/file"},
		{"restore " + nothing + " " + exe, 1, "the backup"},
	} {
		r := gmqRun(t, nil, "", strings.Fields(test.args)...)
		equal(t, "exit code of gmq "+test.args, r.code, test.code)
		contains(t, "gmq "+test.args, r.err, test.stderr)
	}
	if left, err := os.ReadDir(nothing); err != nil || len(left) > 0 {
		t.Errorf("something was left: %v, %v", left, err)
	}
}
