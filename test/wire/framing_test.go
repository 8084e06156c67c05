package wire_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// Rules 2, 3, 6 and 7: lines that are wrong, one by one; each is refused with its code, says what
// is wrong, and leaves the connection usable.
var wrongLines = []struct{ line, code, says string }{
	{`hello`, "bad_json", ""},
	{`GET / HTTP/1.1`, "bad_json", ""},
	{`[{"op":"ping"}]`, "bad_json", ""},
	{`"ping"`, "bad_json", ""},
	{`1`, "bad_json", ""},
	{`null`, "bad_json", ""},
	{`{`, "bad_json", ""},
	{`{"op":"ping"`, "bad_json", ""},
	{`{"op":"ping"}}`, "bad_json", ""},
	{`{"op":"ping"} {"op":"ping"}`, "bad_json", ""},
	{`{"op":"ping",}`, "bad_json", ""},
	{`{'op':'ping'}`, "bad_json", ""},
	{`{op:"ping"}`, "bad_json", ""},
	{`{"op" "ping"}`, "bad_json", ""},
	{"{\"op\":\"pi\tng\"}", "bad_json", ""},
	{"\x00", "bad_json", ""},
	{"\xef\xbb\xbf{\"op\":\"ping\"}", "bad_json", ""},
	{`{"op":"publish","queue":"q","body":01}`, "bad_json", ""},
	{`{"op":"publish","queue":"q","body":+1}`, "bad_json", ""},
	{`{"op":"publish","queue":"q","body":.5}`, "bad_json", ""},
	{`{"op":"publish","queue":"q","body":1.}`, "bad_json", ""},
	{`{"op":"publish","queue":"q","body":NaN}`, "bad_json", ""},
	{`{"op":"publish","queue":"q","body":"\x41"}`, "bad_json", ""},
	{`{"op":"publish","queue":"q","body":"\u12g4"}`, "bad_json", ""},
	{`{"op":"publish","queue":"q","body":[1,]}`, "bad_json", ""},
	{`{"op":"publish","queue":"q","body":{"a":1]}`, "bad_json", ""},
	{`{"op":"publish","queue":"q","body":}`, "bad_json", ""},
	{`{}`, "bad_request", "op"},
	{`{"op":5}`, "bad_request", "op"},
	{`{"op":null}`, "bad_request", "op"},
	{`{"op":"nope"}`, "unknown_op", "nope"},
	{`{"op":"Ping"}`, "unknown_op", "Ping"},
	{`{"op":""}`, "unknown_op", ""},
	{`{"op":"ping","op":"ping"}`, "bad_request", "op"},
	{`{"op":"ping","\u006fp":"ping"}`, "bad_request", "op"},
	{`{"op":"publish","queue":"q","queue":"r","body":1}`, "bad_request", "queue"},
	{`{"op":"publish","queue":"q","body":1,"body":1}`, "bad_request", "body"},
	{`{"op":"publish","queue":"q","QUEUE":"r","body":1}`, "bad_request", "QUEUE"},
	{`{"op":"publish","Queue":"q","body":1}`, "bad_request", "Queue"},
	{`{"op":"ping","wat":1}`, "bad_request", "wat"},
	{`{"op":"ping","queue":"q"}`, "bad_request", "queue"},
	{`{"op":"publish","queue":"q","body":1,"lease":"1s"}`, "bad_request", "lease"},
	{`{"op":"queue.create","queue":"q","retry":{"wat":"1s"}}`, "bad_request", "wat"},
	{"{\"op\":\"publish\",\"queue\":\"q\",\"body\":\"\xff\"}", "bad_request", "UTF-8"},
	{"{\"op\":\"publish\",\"queue\":\"q\",\"body\":{\"\xc3\x28\":1}}", "bad_request", "UTF-8"},
	{"{\"op\":\"publish\",\"queue\":\"\xed\xa0\x80\",\"body\":1}", "bad_request", "UTF-8"},
	{"{\"op\":\"ping\",\"\xff\":1}", "bad_request", "UTF-8"},
	{`{"op":"publish","queue":"q","body":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "bad_request", "64"},
	{`{"op":"publish","queue":"q","body":` + strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000) + `}`, "bad_request", "64"},
	{`{"op":"publish","queue":"q","body":` + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + `}`, "bad_request", "64"},
	{`{"op":"publish","queue":"q","body":` + strings.Repeat("[", 500_000), "bad_json", ""},
	{`{"op":"publish","queue":"q"}`, "bad_request", "body"},
	{`{"op":"publish","body":1}`, "bad_request", "queue"},
	{`{"op":"receive"}`, "bad_request", "queue"},
	{`{"op":"ack","queue":"q"}`, "bad_request", "seq"},
	{`{"op":"ack","seq":1}`, "bad_request", "queue"},
	{`{"op":"extend","queue":"q","seq":1}`, "bad_request", "lease"},
	{`{"op":"unsubscribe"}`, "bad_request", "sub"},
	{`{"op":"ack","queue":"q","seq":[1,2],"receipt":["a"]}`, "bad_request", "receipt"},
	{`{"op":"ack","queue":"q","seq":1,"receipt":["a"]}`, "bad_request", "receipt"},
	{`{"op":"ack","queue":"q","seq":[1],"receipt":"a"}`, "bad_request", "receipt"},
	{`{"operation":"P","queue":"q","payload":""}`, "bad_request", "classic"},
}

func TestWrongLines(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"q"}`)
	for _, test := range wrongLines {
		c.Send(test.line)
		l := c.Reply()
		if l.Bool("ok") || l.Code() != test.code || !strings.Contains(l.Message(), test.says) {
			t.Errorf("%s\n  gives %s\n  not %s naming %q", brief(test.line), l.Raw, test.code, test.says)
		}
		if l.At("error").Bool("retryable") {
			t.Errorf("rule 7: the same line can never succeed: %s", l.Raw)
		}
		if len(l.Raw) > 1000 {
			t.Errorf("rule 7: an error of %d bytes repeats what was sent", len(l.Raw))
		}
		tight(t, l)
		alive(t, c)
	}
	wantCounts(t, c, "q", 0, nil)
	if list := c.OK(`{"op":"queue.list"}`).Each("queues"); len(list) != 1 {
		t.Errorf("a wrong line made a queue: %v", list)
	}
}

// Operations: the alphabet of queue names.
func TestNames(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	for _, name := range []string{
		"", ".", "..", ".hidden", "/", "/../", "../../etc/passwd", `a\\b`, `a\u0000b`, "a b", " a", "a:b", "ü", "☃", `\n`, "*", ">", strings.Repeat("a", 256),
	} {
		for _, op := range []string{
			`{"op":"publish","queue":"%s","body":1}`, `{"op":"receive","queue":"%s"}`, `{"op":"subscribe","queue":"%s"}`,
			`{"op":"queue.create","queue":"%s"}`, `{"op":"queue.info","queue":"%s"}`, `{"op":"queue.delete","queue":"%s"}`,
		} {
			if l := c.Fails("bad_request", op, name); !strings.Contains(l.Message(), "queue") {
				t.Errorf("the error does not name the field: %s", l.Raw)
			}
		}
	}
	good := []string{"a", "A-z_0.9", "a..b", "a.", "-", "_", "9", "con", strings.Repeat("a", 255)}
	for _, name := range good {
		c.OK(`{"op":"publish","queue":"%s","body":1}`, name)
	}
	if list := c.OK(`{"op":"queue.list"}`).Each("queues"); len(list) != len(good) {
		t.Errorf("%d queues, not %d: %v", len(list), len(good), list)
	}
}

// Rule 2: an incomplete last line has no effect.
func TestHalfALine(t *testing.T) {
	s := harness.Start(t, "")
	watch := s.Dial(t)
	watch.OK(`{"op":"queue.create","queue":"q"}`)
	whole := `{"op":"publish","queue":"q","body":1}`
	for _, half := range []string{whole, whole[:len(whole)-1], whole[:10], "{"} {
		c := s.Dial(t)
		c.OK("%s", whole)
		c.SendRaw([]byte(half))
		c.Conn.(*net.TCPConn).CloseWrite()
		if got := c.Ended(); len(got) > 0 {
			t.Errorf("rule 2: half a line was answered: %s", got[0].Raw)
		}
	}
	wantCounts(t, watch, "q", 4, map[string]int64{"ready": 4})
}

// Requests that were sent before the connection's sending half was closed are answered.
func TestHalfClose(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.Send(`{"op":"publish","id":1,"queue":"q","body":1}`, `{"op":"publish","id":2,"queue":"q","body":2}`)
	c.Conn.(*net.TCPConn).CloseWrite()
	if got := c.Ended(); len(got) != 2 || !got[0].Bool("ok") || !got[1].Bool("ok") {
		t.Errorf("rule 6: every request gets a reply: %v", got)
	}
	wantCounts(t, s.Dial(t), "q", 2, map[string]int64{"ready": 2})
}

// Rule 4: a line that is too long is skipped, costs no memory, and the connection stays.
func TestLineTooLong(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"q"}`)
	before, _ := s.Memory()
	const size = 100 << 20
	go func() { // the answer may come while the line is still being sent
		piece := bytes.Repeat([]byte("x"), 1<<20)
		c.Write([]byte(`{"op":"publish","queue":"q","body":"`))
		for range size / len(piece) {
			c.Write(piece)
		}
		c.Write([]byte("\"}\n{\"op\":\"ping\",\"id\":\"behind\"}\n"))
	}()
	l := c.Reply()
	l.WantCode(t, "line_too_long")
	tight(t, l)
	if l = c.Reply(); l.Text("id") != "behind" || !l.Bool("ok") {
		t.Errorf("rule 4: the line behind it gives %s", l.Raw)
	}
	if _, peak := s.Memory(); peak-before > 16<<20 {
		t.Errorf("rule 4: a line of 100 MiB took the server from %d to %d MiB", before>>20, peak>>20)
	}
	wantCounts(t, c, "q", 0, nil)
	alive(t, c)
}

// Rule 4: where exactly a line becomes too long.
func TestLineLimit(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	const limit = 1<<20 + 64<<10
	line := func(n int) string {
		const ping = `{"op":"ping"}`
		return ping[:1] + strings.Repeat(" ", n-len(ping)) + ping[1:]
	}
	c.OK(`%s`, line(limit))
	c.Fails("line_too_long", `%s`, line(limit+1))
	c.OK(`%s`, line(limit))
	for _, n := range []int{1, 2, 100, 65535, 65536, 65537, 1 << 20} { // around the edges of buffers
		c.Send(line(limit+n), fmt.Sprintf(`{"op":"ping","id":%d}`, n))
		c.Reply().WantCode(t, "line_too_long")
		if l := c.Reply(); l.Int("id") != int64(n) {
			t.Fatalf("rule 4: behind a line of %d bytes too many: %s", n, l.Raw)
		}
	}
	alive(t, c)
}

// Rule 2: it does not matter how the bytes of lines come.
func TestPieces(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.Conn.(*net.TCPConn).SetNoDelay(true)
	lines := "{\"op\":\"publish\",\"id\":1,\"queue\":\"q\",\"body\":\"☃\"}\r\n\n{\"op\":\"ping\",\"id\":2}\n"
	for i := range len(lines) {
		c.SendRaw([]byte(lines[i : i+1]))
	}
	got := map[int64]bool{c.Reply().Int("id"): true, c.Reply().Int("id"): true}
	if !got[1] || !got[2] {
		t.Errorf("rule 2: the replies are %v", got)
	}
	if m := receive(t, c, "q"); m.Body() != `"☃"` {
		t.Errorf("rule 10: %s", m.Raw)
	}
}
