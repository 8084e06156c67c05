package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	gmq "github.com/gmq/gmq/client"
)

func TestWhatIsPublishedComesBack(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("\x00\xff\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, test := range []struct {
		stdin string
		args  []string
		text  string // what sub prints
		body  string // the body as JSON, of the last message
	}{
		{"", []string{"hello"}, "hello\n", `"hello"`},
		{"", []string{`{"a" : 1}`}, `{"a" : 1}` + "\n", `"{\"a\" : 1}"`},
		{"", []string{"--json", ` {"a" : 1e400} `}, `{"a" : 1e400}` + "\n", `{"a" : 1e400}`},
		{"", []string{"--json", `"x\ny"`}, "x\ny\n", `"x\ny"`},
		{"", []string{""}, "\n", `""`},
		{"a\n\nb", nil, "a\n\nb\n", `"b"`},
		{"1\n\n [2]\r\n", []string{"--json"}, "1\n[2]\n", `[2]`},
		{"é€😀<&>\n", nil, "é€😀<&>\n", `"é€😀<&>"`},
		{"\x00\x01", []string{"--base64"}, "AAE=\n", `"AAE="`},
		{"", []string{"--base64", "hi"}, "aGk=\n", `"aGk="`},
		{"", []string{"--file", file}, "AP8K\n", `"AP8K"`},
		{"{\n}", []string{"--json", "--file", "-"}, "{ }\n", `{ }`},
	} {
		queue := fmt.Sprintf("q%d", i)
		args := append([]string{"pub", queue}, test.args...)
		equal(t, "pub in a pipe says", s.must(test.stdin, args...), "")
		equal(t, fmt.Sprint("text of ", args), s.must("", "sub", queue), test.text)
		s.must(test.stdin, args...)
		out := strings.Split(strings.TrimSpace(s.must("", "sub", queue, "-o", "json")), "\n")
		last := out[len(out)-1]
		if !strings.HasSuffix(last, `,"body":`+test.body+"}") || !json.Valid([]byte(last)) {
			t.Errorf("body of %v: want %s in %s", args, test.body, last)
		}
	}
	s.must("", "pub", "raw", "--file", file)
	s.must("", "pub", "raw", "text")
	equal(t, "raw", s.must("", "sub", "raw", "--raw"), "\x00\xff\ntext")
	s.must("", "pub", "h", "x", "--header", "a=b=c,d", "--header", "e=")
	contains(t, "headers", s.must("", "sub", "h", "-o", "json"), `"headers":{"a":"b=c,d","e":""}`)
}

func TestManyLinesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--storage", "memory")
	var in, confirms strings.Builder
	for i := 1; i <= 30_000; i++ {
		fmt.Fprintf(&in, "line %d\n", i)
		fmt.Fprintf(&confirms, `{"seq":%d,"stored":"memory"}`+"\n", i)
	}
	if got := s.must(in.String(), "pub", "lines", "-o", "json"); got != confirms.String() {
		t.Error("the confirms are not one for each line, in order")
	}
	if got := s.must("", "sub", "lines"); got != in.String() {
		t.Error("what came back is not what was sent")
	}
	equal(t, "acked", s.counts("lines")["acked"], 30_000)
}

func TestRefusalsAreReported(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.must("", "queue", "create", "small", "--max-messages", "2")
	r := s.run("1\n2\n3\n4\n", "pub", "small")
	equal(t, "code", r.code, 1)
	contains(t, "stderr", r.err, "gmq: line 3: queue_full:", "gmq: line 4: queue_full:", "gmq: 2 published, 2 refused\n")

	r = s.run("{}\nno\n[]\n", "pub", "mixed", "--json", "-o", "json")
	equal(t, "code", r.code, 1)
	want := `{"seq":1,"stored":"disk"}
{"line":2,"error":{"code":"bad_request","message":"not JSON; without --json it is sent as a string","retryable":false}}
{"seq":2,"stored":"disk"}
`
	equal(t, "stdout", r.out, want)

	r = s.run(strings.Repeat("x", 3<<20)+"\nshort\n", "pub", "long")
	equal(t, "code of a long line", r.code, 1)
	contains(t, "stderr", r.err, "line 1: message_too_large:", "1 published, 1 refused")
	equal(t, "what came through", s.must("", "sub", "long"), "short\n")

	r = s.run("", "pub", "one", "--json", "no")
	equal(t, "stderr", r.err, "gmq: not JSON; without --json it is sent as a string\n")
	r = s.run("\xff\n", "pub", "one")
	contains(t, "stderr", r.err, "not UTF-8; send it as bytes")
	s.must("", "queue", "bind", "small", "a.*")
	r = s.run("a\nb\n", "pub", "--topic", "a.b")
	equal(t, "code of a topic", r.code, 1)
	contains(t, "stderr", r.err, "gmq: line 1: queue_full:", "gmq: line 2: queue_full:", "gmq: 0 published, 2 refused\n")
}

// What stdin has given so far is sent at once, and not when there is more.
func TestPubDoesNotWaitForMore(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.start("pub", "slow", "-o", "json")
	for seq := 1; seq <= 3; seq++ {
		fmt.Fprintln(c.in, "x")
		equal(t, "confirm", c.line(t), fmt.Sprintf(`{"seq":%d,"stored":"disk"}`, seq))
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	equal(t, "code", c.end(), 1)
	contains(t, "stderr", c.err.String(), "gmq: interrupted; 3 published")
}

func TestPubEndsWithItsServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.start("pub", "q", "-o", "json")
	fmt.Fprintln(c.in, "x")
	c.line(t)
	s.signal(syscall.SIGKILL)
	equal(t, "code", c.end(), 1)
	contains(t, "stderr", c.err.String(), "gmq: the connection to "+s.addr+" was lost; 1 published")
}

func TestLinesAreNeverHeldWholeWhenTooLong(t *testing.T) {
	const limit = 100_000
	long := strings.Repeat("y", 10*limit)
	l := &lines{r: bufio.NewReaderSize(strings.NewReader("a\n"+long+"\n"+long[:limit-2]+"\n"+long[:limit-1]+"\n"+long), 16), limit: limit}
	for i, want := range []struct {
		length int
		over   bool
	}{{1, false}, {0, true}, {limit - 2, false}, {0, true}, {0, true}} {
		body, line, err := l.next()
		equal(t, "line", line, i+1)
		if want.over != errors.Is(err, gmq.ErrTooLarge) || !want.over && (err != nil || len(body.(string)) != want.length) {
			t.Errorf("line %d: %v", line, err)
		}
		if cap(l.long) > 4*limit {
			t.Errorf("line %d: %d bytes held", line, cap(l.long))
		}
	}
	if _, _, err := l.next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	// Escapes make a body longer than its text.
	if _, err := lineBody(bytes.Repeat([]byte("\x01"), limit/2), false, limit); !errors.Is(err, gmq.ErrTooLarge) {
		t.Errorf("escapes: %v", err)
	}
}
