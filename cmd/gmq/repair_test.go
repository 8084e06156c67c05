package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// brokenDir is a copy of a stopped server's directory, to be damaged.
func brokenDir(t *testing.T, dir string) string {
	t.Helper()
	broken := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(broken, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return broken
}

// mend repairs a directory: check finds the damage, repair only says what it would do, then does it, and
// check finds none.
func mend(t *testing.T, dir string) (report repair) {
	t.Helper()
	equal(t, "code of check", gmqRun(t, nil, "", "journal", "check", "--data", dir).code, 1)
	before := names(t, dir)
	r := gmqRun(t, nil, "", "journal", "repair", "--data", dir)
	equal(t, "code without --yes", r.code, 1)
	contains(t, "stderr", r.err, "nothing has been changed")
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("without --yes: the files were\n%v and are\n%v", before, after)
	}
	would := r.out
	r = gmqRun(t, nil, "", "journal", "repair", "--data", dir, "--yes")
	if r.code != 0 || r.err != "" {
		t.Fatalf("repair: %d, %s", r.code, r.err)
	}
	if !strings.HasPrefix(r.out, would) {
		t.Errorf("repair said it would do\n%s and did\n%s", would, r.out)
	}
	contains(t, "check", gmqRun(t, nil, "", "journal", "check", "--data", dir).out, "ok: ")
	kept, err := filepath.Glob(filepath.Join(dir, "damaged-*", "report.json"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%v %v", kept, err)
	}
	text, err := os.ReadFile(kept[0])
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, moved := range report.Moved {
		if _, err := os.Stat(filepath.Join(dir, moved)); err != nil {
			t.Errorf("moved: %v", err)
		}
	}
	contains(t, "a second repair", gmqRun(t, nil, "", "journal", "repair", "--data", dir, "--yes").out, "Nothing is damaged")
	return report
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// left are the messages of a queue as a server shows them: their numbers and bodies.
func left(t *testing.T, s *daemon, queue string) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(s.must("", "peek", queue, "-o", "json")) {
		var m struct {
			Seq  int
			Body string
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d %.20s", m.Seq, m.Body))
	}
	return strings.Join(out, ", ")
}

func TestRepairOfRecords(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("one\ntwo\nthree\nfour\n", "pub", "orders")
	s.must("one\ntwo\n", "pub", "invoices")
	for _, q := range []string{"eu", "br"} {
		s.must("", "queue", "create", q)
		s.must("", "queue", "bind", q, "news.>")
	}
	s.must("news to all\n", "pub", "--topic", "news.all")
	s.must("", "sub", "orders", "-n", "1") // and acked
	s.must("five\n", "pub", "orders")
	s.stop()

	for _, test := range []struct {
		what   string
		damage func(dir string)
		lost   string // by queue: the numbers
		gap    bool
		orders string
		others string // the messages of invoices, eu and br
	}{
		{"a bit of a body", func(dir string) { overwrite(t, dir, `"three"`, 1, "u") },
			"", false, "2 two, 3 three, 4 four, 5 five", "1 one, 2 two; 1 news to all; 1 news to all"},
		{"a body", func(dir string) { overwrite(t, dir, `"three"`, 1, "?????") },
			"orders 3", false, "2 two, 4 four, 5 five", "1 one, 2 two; 1 news to all; 1 news to all"},
		{"the body of a topic's message", func(dir string) { overwrite(t, dir, `"news to all"`, 1, "???????????") },
			"br 1, eu 1", false, "2 two, 3 three, 4 four, 5 five", "1 one, 2 two; ; "},
		{"a whole record", func(dir string) { overwrite(t, dir, `"three"`, -28, strings.Repeat("\xa5", 35)) },
			"", true, "2 two, 3 four, 4 five", "1 one, 2 two; 1 news to all; 1 news to all"},
		{"a record of which only the body can be read", func(dir string) { overwrite(t, dir, `"three"`, -16, strings.Repeat("\xa5", 16)) },
			"", true, "2 two, 3 four, 4 five", "1 one, 2 two; 1 news to all; 1 news to all"},
	} {
		dir := brokenDir(t, s.dir)
		test.damage(dir)
		report := mend(t, dir)
		var lost []string
		for _, l := range report.Lost {
			lost = append(lost, l.Queue+" "+strings.Join(l.Seqs, " "))
		}
		equal(t, test.what+": lost", strings.Join(lost, ", "), test.lost)
		if (len(report.Gaps) == 1) != test.gap || test.gap && report.Gaps[0].Records != 1 || len(report.Again) > 0 || report.LeftOut > 0 {
			t.Errorf("%s: %+v", test.what, report)
		}
		again := startServerWith(t, dir, "127.0.0.1:0", nil)
		equal(t, test.what+": orders", left(t, again, "orders"), test.orders)
		equal(t, test.what+": the others", strings.Join([]string{left(t, again, "invoices"), left(t, again, "eu"), left(t, again, "br")}, "; "), test.others)
		if n := again.counts("orders"); n["published"] != n["ready"]+n["acked"]+n["cancelled"] {
			t.Errorf("%s: the counts do not add up: %v", test.what, n)
		}
		again.must("six\n", "pub", "orders")
		again.stop()
	}
}

// Behind a place of which nothing is known, acks of what was published before it count, others do not.
func TestRepairBehindAGap(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("one\ntwo\n", "pub", "orders")
	s.must("", "queue", "pause", "orders") // the record to be lost: what it was, nobody can say
	s.must("", "queue", "resume", "orders")
	s.must("three\nfour\n", "pub", "orders")
	s.must("", "sub", "orders", "-n", "3")
	s.stop()
	segment, offset := find(t, s.dir, " pause ")
	if err := writeAt(filepath.Join(s.dir, "wal", fmt.Sprintf("%010d.seg", segment)), int64(offset)+12, []byte{0xa5, 0xa5, 0xa5}); err != nil {
		t.Fatal(err)
	}
	report := mend(t, s.dir)
	if len(report.Gaps) != 1 || report.Gaps[0].From != fmt.Sprintf("%d:%d", segment, offset) || len(report.Gaps[0].Shards) != 1 {
		t.Errorf("%+v", report.Gaps)
	}
	if len(report.Again) != 1 || report.Again[0].Queue != "orders" || report.Again[0].Records < 1 {
		t.Errorf("%+v", report.Again)
	}
	again := startServerWith(t, s.dir, "127.0.0.1:0", nil)
	equal(t, "orders", left(t, again, "orders"), "3 three, 4 four")
	again.stop()
	moved, err := filepath.Glob(filepath.Join(s.dir, "damaged-*"))
	if err != nil || len(moved) != 1 {
		t.Fatal(moved, err)
	}
	// What was moved can be looked at as far as it is whole.
	r := gmqRun(t, nil, "", "journal", "dump", "--contents", "--data", moved[0])
	contains(t, "dump of what was moved", r.out, `body="two"`)
}

// find is the place of the first record of which dump says that.
func find(t *testing.T, dir, what string) (segment, offset int) {
	t.Helper()
	for line := range strings.Lines(gmqRun(t, nil, "", "journal", "dump", "--data", dir).out) {
		if strings.Contains(line, what) {
			if _, err := fmt.Sscanf(line, "%d:%d", &segment, &offset); err != nil {
				t.Fatal(err)
			}
			return segment, offset
		}
	}
	t.Fatalf("there is no %q", what)
	return 0, 0
}

// Messages of a queue that is not known any more are kept where they are.
func TestRepairWithoutTheQueue(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("", "queue", "create", "orders")
	s.must("one\ntwo\n", "pub", "orders")
	s.stop()
	segment, offset := find(t, s.dir, " create ")
	if err := writeAt(filepath.Join(s.dir, "wal", fmt.Sprintf("%010d.seg", segment)), int64(offset)+12, []byte{0xa5, 0xa5, 0xa5}); err != nil {
		t.Fatal(err)
	}
	report := mend(t, s.dir)
	equal(t, "left out", report.LeftOut, 2)
	again := startServerWith(t, s.dir, "127.0.0.1:0", nil)
	equal(t, "code of a queue that is lost", again.run("", "peek", "orders").code, 5)
	again.must("three\n", "pub", "orders")
	equal(t, "orders", left(t, again, "orders"), "1 three")
	again.stop()
	moved, err := filepath.Glob(filepath.Join(s.dir, "damaged-*"))
	if err != nil || len(moved) != 1 {
		t.Fatal(moved, err)
	}
	kept, err := os.ReadFile(filepath.Join(moved[0], "wal", fmt.Sprintf("%010d.seg", segment)))
	if err != nil || !bytes.Contains(kept, []byte(`"two"`)) {
		t.Errorf("what was left out is not in what was moved: %v", err)
	}
}

// Segments and snapshots of a journal of some size.
func TestRepairOfFiles(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	big := strings.Repeat("x", 900_000)
	for i := range 60 { // four segments
		s.must(fmt.Sprintf("%d %s\n", i+1, big), "pub", "big")
	}
	s.must("small\n", "pub", "small")
	s.stop()
	file := func(sub, name string) func(string) string {
		return func(dir string) string { return filepath.Join(dir, sub, name) }
	}
	second := file("wal", "0000000002.seg")
	for _, test := range []struct {
		what   string
		damage func(dir string) error
		gone   int // messages of big, at most
	}{
		{"a segment's header", func(dir string) error { return writeAt(second(dir), 0, make([]byte, 512)) }, 0},
		{"a segment is missing", func(dir string) error { return os.Remove(second(dir)) }, 20},
		{"a segment is cut short", func(dir string) error { return os.Truncate(second(dir), 5<<20) }, 14},
		{"a megabyte of a segment", func(dir string) error { return writeAt(second(dir), 3<<20, make([]byte, 1<<20)) }, 3},
		{"VERSION", func(dir string) error { return writeAt(filepath.Join(dir, "VERSION"), 0, []byte("???")) }, 0},
		{"VERSION is missing", func(dir string) error { return os.Remove(filepath.Join(dir, "VERSION")) }, 0},
	} {
		dir := brokenDir(t, s.dir)
		if err := test.damage(dir); err != nil {
			t.Fatal(err)
		}
		report := mend(t, dir)
		again := startServerWith(t, dir, "127.0.0.1:0", nil)
		gone := 60 - again.counts("big")["ready"]
		if gone > test.gone || (gone > 0) != (test.gone > 0) || (gone > 0) != (len(report.Gaps)+len(report.Lost) > 0) {
			t.Errorf("%s: %d messages are gone; gaps %+v, lost %+v", test.what, gone, report.Gaps, report.Lost)
		}
		equal(t, test.what+": the other queue", left(t, again, "small"), "1 small")
		again.stop()
	}
}

func writeAt(name string, offset int64, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, offset)
	return err
}

// Users outlive a repair; where a change of them may be what is lost, the report says so.
func TestRepairAndUsers(t *testing.T) {
	t.Parallel()
	s, admin := lockedServer(t)
	for _, args := range [][]string{{"user", "add", "ann", "--allow", "*:canary.*", "--no-password"}, {"user", "add", "bob", "--no-password"}, {"pub", "orders", "a message"}} {
		r := gmqRun(t, admin, "", args...)
		equal(t, strings.Join(args, " ")+": "+r.err, r.code, 0)
	}
	s.stop()
	for _, test := range []struct {
		what, marker, text string
		users              string
		check              bool
	}{
		{"the body of a message", "a message", "?????????", "admin ann bob", false},
		{"a user", "*:canary.*", "??????????", "admin bob", true},
	} {
		dir := brokenDir(t, s.dir)
		overwrite(t, dir, test.marker, 0, test.text)
		if report := mend(t, dir); report.Users != test.check {
			t.Errorf("%s: %+v", test.what, report)
		}
		config := writeFile(t, "auth: {required: true}\n", 0o600)
		again := startServerWith(t, dir, "127.0.0.1:0", nil, "--config", config)
		r := gmqRun(t, append(again.env(), admin[1:]...), "", "user", "ls", "-o", "json")
		var names []string
		for line := range strings.Lines(r.out) {
			var u struct{ User string }
			if err := json.Unmarshal([]byte(line), &u); err != nil {
				t.Fatal(err, r)
			}
			names = append(names, u.User)
		}
		equal(t, test.what, strings.Join(names, " "), test.users)
		again.stop()
	}
}
