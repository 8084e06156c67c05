package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// decode decodes a line that stands where no byte may be written.
func decode(t *testing.T, line string) (*Request, *Error) {
	t.Helper()
	r := &Request{}
	err := NewDecoder(1000).Decode([]byte(line), r)
	if err != nil && !utf8.ValidString(err.Message) {
		t.Errorf("%q: the message %q is no UTF-8", line, err.Message)
	}
	return r, err
}

const someBatch = `{"op":"publish","queue":"q","messages":`

// manyHeaders gives the members h0, h1 and so on.
func manyHeaders(n int) string {
	var s []string
	for i := range n {
		s = append(s, fmt.Sprintf(`"h%d":""`, i))
	}
	return strings.Join(s, ",")
}

// Lines that are refused: the code, and what the message names.
var refused = []struct {
	line, names string
	code        Code
}{
	// Rule 3: no JSON object.
	{``, "", CodeBadJSON}, {`[]`, "", CodeBadJSON}, {`"op"`, "", CodeBadJSON}, {`1`, "", CodeBadJSON}, {`null`, "", CodeBadJSON},
	{`{"op":"ping"}{`, "", CodeBadJSON}, {`{"op":"ping"}{"op":"ping"}`, "byte 13", CodeBadJSON}, {`{"op":"ping"`, "too early", CodeBadJSON},
	{"\uFEFF" + `{"op":"ping"}`, "", CodeBadJSON}, {`{"op":"ping",}`, "", CodeBadJSON}, {"{\"op\":\"ping\"}\x00", "", CodeBadJSON},
	{`{"op":"ping","queue":5,}`, "", CodeBadJSON}, {`{"op":"nothing","x":tru}`, "", CodeBadJSON},
	// Rule 3: invalid UTF-8, half surrogates.
	{"{\"op\":\"publish\",\"queue\":\"q\",\"body\":\"\xff\"}", "UTF-8", CodeBadRequest},
	{"{\"op\":\"publish\",\"queue\":\"q\",\"body\":{\"\xc3\":1}}", "UTF-8", CodeBadRequest},
	{"{\"op\":\"publish\",\"queue\":\"q\xff\",\"body\":1}", "queue", CodeBadRequest},
	{"{\"op\":\"pi\xffng\"}", "op", CodeBadRequest}, {"{\"o\xffp\":\"ping\"}", "UTF-8", CodeBadRequest},
	{"{\"op\":\"ping\",\"id\":\"\xff\"}", "id", CodeBadRequest},
	{"{\"op\":\"publish\",\"queue\":\"q\",\"headers\":{\"a\":\"\xff\"},\"body\":1}", "headers", CodeBadRequest},
	{"{\"op\":\"publish\",\"queue\":\"q\",\"headers\":{\"\xff\":\"a\"},\"body\":1}", "header", CodeBadRequest},
	{`{"op":"publish","queue":"q\ud800","body":1}`, "queue", CodeBadRequest}, {`{"op":"publish","queue":"q","key":"\udc00","body":1}`, "key", CodeBadRequest},
	{`{"op":"publish","queue":"q","headers":{"a":"\ud800"},"body":1}`, "headers", CodeBadRequest},
	{`{"op":"publish","queue":"q","headers":{"\ud800":"a"},"body":1}`, "header", CodeBadRequest}, {`{"op":"ping","\ud800":1}`, "surrogate", CodeBadRequest},
	// Rule 3: duplicates, also under escapes.
	{`{"op":"ping","op":"ping"}`, "op", CodeBadRequest}, {`{"op":"ping","id":1,"id":1}`, "id", CodeBadRequest},
	{`{"op":"publish","queue":"a","queue":"b","body":1}`, "queue", CodeBadRequest}, {`{"op":"publish","queue":"a","\u0071ueue":"b","body":1}`, "queue", CodeBadRequest},
	{`{"op":"publish","queue":"a","body":1,"body":1}`, "body", CodeBadRequest},
	{someBatch + `[{"body":1},{"body":1,"\u0062ody":2}]}`, "messages[1]: body", CodeBadRequest},
	{`{"op":"queue.create","queue":"a","retry":{"min":"1s","min":"1s"}}`, "retry.min", CodeBadRequest},
	{`{"op":"publish","queue":"q","headers":{"a":"1","\u0061":"2"},"body":1}`, `"a"`, CodeBadRequest},
	{`{"op":"publish","queue":"q","headers":{` + manyHeaders(20) + `,"h\u0035":""},"body":1}`, `"h5"`, CodeBadRequest},
	// Rule 3: unknown fields.
	{`{"op":"ping","nope":1}`, `"nope"`, CodeBadRequest}, {`{"op":"publish","QUEUE":"q","body":1}`, `"QUEUE"`, CodeBadRequest},
	{`{"op":"ping","queue":"q"}`, `"queue"`, CodeBadRequest}, {`{"op":"ping","queue":5}`, `queue`, CodeBadRequest}, {`{"op":"ping","":1}`, `""`, CodeBadRequest},
	{`{"op":"publish","queue":"q","body":1,"auto_create":true}`, "auto_create", CodeBadRequest},
	{someBatch + `[{"body":1,"queue":"q"}]}`, `messages[0]: unknown field "queue"`, CodeBadRequest}, {someBatch + `[{"body":1,"id":1}]}`, `"id"`, CodeBadRequest},
	{`{"op":"queue.create","queue":"q","retry":{"tries":1}}`, `"tries"`, CodeBadRequest}, {`{"op":"receive","queue":"q","at":"2026-01-02T03:04:05Z"}`, `"at"`, CodeBadRequest},
	{`{"op":"nack","queue":"q","seq":1,"at":"2026-01-02T03:04:05Z"}`, `"at"`, CodeBadRequest}, {`{"op":"ping","operation":"P"}`, "operation", CodeBadRequest},
	{`{"op":"queue.create","queue":"q","min":"1s"}`, `"min"`, CodeBadRequest}, {`{"op":"queue.create","queue":"q","retry.min":"1s"}`, `"retry.min"`, CodeBadRequest},
	// Rule 3: wrong types, null among them.
	{`{"op":null}`, "op", CodeBadRequest}, {`{"op":1}`, "op", CodeBadRequest}, {`{"op":"publish","queue":null,"body":1}`, "queue", CodeBadRequest},
	{`{"op":"ping","id":null}`, "id", CodeBadRequest}, {`{"op":"ping","id":{}}`, "id", CodeBadRequest}, {`{"op":"ping","id":true}`, "id", CodeBadRequest},
	{`{"op":"ping","quiet":1}`, "quiet", CodeBadRequest}, {`{"op":"ping","quiet":null}`, "quiet", CodeBadRequest}, {`{"op":"publish","queue":["q"],"body":1}`, "array", CodeBadRequest},
	{`{"op":"publish","queue":"q","headers":null,"body":1}`, "headers", CodeBadRequest}, {`{"op":"publish","queue":"q","headers":[],"body":1}`, "headers", CodeBadRequest},
	{`{"op":"publish","queue":"q","headers":{"a":1},"body":1}`, "headers", CodeBadRequest}, {`{"op":"publish","queue":"q","headers":{"a":null},"body":1}`, "headers", CodeBadRequest},
	{someBatch + `null}`, "messages", CodeBadRequest}, {someBatch + `{}}`, "messages", CodeBadRequest}, {someBatch + `[1]}`, "messages[0]", CodeBadRequest},
	{`{"op":"ack","queue":"q","seq":"1"}`, "seq", CodeBadRequest}, {`{"op":"ack","queue":"q","seq":[null]}`, "seq", CodeBadRequest}, {`{"op":"ack","queue":"q","seq":[[1]]}`, "seq", CodeBadRequest},
	{`{"op":"ack","queue":"q","seq":1,"receipt":1}`, "receipt", CodeBadRequest}, {`{"op":"queue.create","queue":"q","retry":1}`, "retry", CodeBadRequest},
	{`{"op":"receive","queue":"q","wait":5}`, "wait", CodeBadRequest}, {`{"op":"receive","queue":"q","max":"5"}`, "max", CodeBadRequest},
	// Rule 6 and the classic protocol.
	{`{}`, "op is missing", CodeBadRequest}, {`{"id":1}`, "op is missing", CodeBadRequest}, {`{"op":"nope"}`, `"nope"`, CodeUnknownOp}, {`{"op":""}`, "", CodeUnknownOp}, {`{"op":"PING"}`, "", CodeUnknownOp},
	{`{"op":"none"}`, "", CodeUnknownOp}, {`{"op":"nope","queue":5}`, "nope", CodeUnknownOp}, {`{"op":"nope","messages":[1],"body":1,"headers":{"a":1}}`, "nope", CodeUnknownOp}, {`{"op":"nope","id":[]}`, "id", CodeBadRequest}, {`{"op":"nope","bar":5}`, "nope", CodeUnknownOp}, {`{"op":"nope","max":0}`, "nope", CodeUnknownOp},
	{`{"operation":"P","queue":"q","payload":"","auth":{"user":"","password":""}}`, "classic", CodeBadRequest},
	// What an op needs, and what excludes what.
	{`{"op":"publish","queue":"q"}`, "body or messages", CodeBadRequest}, {`{"op":"publish","body":1}`, "queue or topic", CodeBadRequest},
	{`{"op":"publish","queue":"q","topic":"t","body":1}`, "exclude", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"messages":[{"body":1}]}`, "exclude", CodeBadRequest},
	{`{"op":"publish","queue":"q","key":"k","messages":[{"body":1}]}`, "key", CodeBadRequest}, {someBatch + `[]}`, "messages", CodeBadRequest}, {someBatch + `[{}]}`, "body is missing", CodeBadRequest},
	{someBatch + `[{"body":1},{"key":"a"}]}`, "messages[1]", CodeBadRequest},
	{`{"op":"receive"}`, "queue", CodeBadRequest}, {`{"op":"ack","queue":"q"}`, "seq", CodeBadRequest}, {`{"op":"ack","seq":1}`, "queue", CodeBadRequest}, {`{"op":"nack","queue":"q"}`, "seq", CodeBadRequest},
	{`{"op":"extend","queue":"q","seq":1}`, "lease", CodeBadRequest}, {`{"op":"subscribe"}`, "queue or topic", CodeBadRequest}, {`{"op":"subscribe","queue":"q","topic":"t"}`, "exclude", CodeBadRequest},
	{`{"op":"unsubscribe"}`, "sub", CodeBadRequest}, {`{"op":"queue.bind","queue":"q"}`, "topic", CodeBadRequest}, {`{"op":"queue.unbind","topic":"t"}`, "queue", CodeBadRequest},
	{`{"op":"queue.cancel","queue":"q"}`, "seq", CodeBadRequest}, {`{"op":"queue.cancel","queue":"q","seq":[1]}`, "seq", CodeBadRequest}, {`{"op":"queue.explain","queue":"q","seq":[1]}`, "seq", CodeBadRequest},
	{`{"op":"queue.reschedule","queue":"q","seq":1}`, "delay or at", CodeBadRequest}, {`{"op":"queue.reschedule","queue":"q","seq":1,"delay":"1s","at":"2026-01-02T03:04:05Z"}`, "exclude", CodeBadRequest},
	{`{"op":"publish","queue":"q","body":1,"delay":"1s","at":"2026-01-02T03:04:05Z"}`, "exclude", CodeBadRequest}, {someBatch + `[{"body":1,"delay":"1s","at":"2026-01-02T03:04:05Z"}]}`, "exclude", CodeBadRequest},
	{`{"op":"hello","mechanism":"SCRAM-SHA-256"}`, "data", CodeBadRequest}, {`{"op":"hello","data":"YQ==","user":"a","password":"b"}`, "exclude", CodeBadRequest},
	{`{"op":"user.add","user":"a b"}`, "user must be", CodeBadRequest}, {`{"op":"user.add"}`, "needs user", CodeBadRequest}, {`{"op":"user.add","user":"a","allow":"publish:a"}`, "an array", CodeBadRequest},
	{`{"op":"user.add","user":"a","allow":["publish"]}`, "allow must hold grants", CodeBadRequest}, {`{"op":"user.add","user":"a","deny":["push:a"]}`, "deny must hold grants", CodeBadRequest},
	{`{"op":"user.add","user":"a","deny":["publish:.a"]}`, "deny must hold grants", CodeBadRequest}, {`{"op":"user.add","user":"a","allow":[1]}`, "a string", CodeBadRequest},
	{`{"op":"user.add","user":"a","allow":["publish:` + strings.Repeat(`a","publish:`, 256) + `a"]}`, "at most 256", CodeBadRequest},
	{`{"op":"token.add","name":"t","ttl":"0s"}`, "ttl", CodeBadRequest}, {`{"op":"auth.check","user":"u","verb":"push","name":"a"}`, "verb", CodeBadRequest}, {`{"op":"auth.check","user":"u","verb":"peek","name":"a b"}`, "name", CodeBadRequest},
	{`{"op":"user.list","after":1}`, "after", CodeBadRequest}, {`{"op":"user.remove","user":"a","revoke":[]}`, "revoke", CodeBadRequest},
	{`{"op":"queue.info"}`, "queue", CodeBadRequest}, {`{"op":"hello","user":"a"}`, "password", CodeBadRequest}, {`{"op":"hello","password":"a"}`, "user", CodeBadRequest}, {`{"op":"hello","token":"a","user":"a","password":"b"}`, "token", CodeBadRequest},
	// Names and topics.
	{`{"op":"publish","queue":"","body":1}`, "255", CodeBadRequest}, {`{"op":"publish","queue":".q","body":1}`, `".q"`, CodeBadRequest}, {`{"op":"publish","queue":"a b","body":1}`, `"a b"`, CodeBadRequest},
	{`{"op":"publish","queue":"é","body":1}`, `é`, CodeBadRequest}, {`{"op":"publish","queue":"a\u0000b","body":1}`, `\x00`, CodeBadRequest}, {`{"op":"publish","queue":"a\nb","body":1}`, `\n`, CodeBadRequest}, {`{"op":"receive","queue":"a/b"}`, "a/b", CodeBadRequest},
	{`{"op":"ack","queue":".","seq":1}`, "queue", CodeBadRequest}, {`{"op":"receive","queue":".x"}`, "queue", CodeBadRequest}, {`{"op":"queue.redrive","queue":"q","to":".x"}`, "to", CodeBadRequest}, {`{"op":"queue.list","prefix":"a b"}`, "prefix", CodeBadRequest},
	{`{"op":"publish","topic":"a..b","body":1}`, "topic", CodeBadRequest}, {`{"op":"publish","topic":"a.*","body":1}`, "topic", CodeBadRequest}, {`{"op":"publish","topic":">","body":1}`, "topic", CodeBadRequest}, {`{"op":"subscribe","topic":">.a"}`, "topic", CodeBadRequest},
	// Values and limits.
	{`{"op":"publish","queue":"q","body":1,"priority":10}`, "0 to 9, not 10", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"priority":-1}`, "-1", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"priority":1.0}`, "1.0", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"priority":1e0}`, "1e0", CodeBadRequest},
	{`{"op":"publish","queue":"q","body":1,"delay":"-1s"}`, "delay", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"delay":"1"}`, "duration", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"delay":"1 s"}`, "duration", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"delay":""}`, "delay", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"delay":"100000h"}`, "87600h", CodeBadRequest},
	{`{"op":"publish","queue":"q","body":1,"ttl":"0s"}`, "ttl", CodeBadRequest}, {someBatch + `[{"body":1,"ttl":"0s"}]}`, "ttl", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"at":"tomorrow"}`, "RFC 3339", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"at":"2026-02-30T00:00:00Z"}`, "at", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"at":"9999-01-01T00:00:00Z"}`, "2199", CodeBadRequest},
	{`{"op":"publish","queue":"q","body":1,"stored":"tape"}`, `"tape"`, CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"key":""}`, "key", CodeBadRequest}, {`{"op":"publish","queue":"q","body":1,"dedup_id":""}`, "dedup_id", CodeBadRequest}, {`{"op":"publish","queue":"q","headers":{"":"a"},"body":1}`, "header", CodeBadRequest},
	{`{"op":"receive","queue":"q","max":0}`, "max", CodeBadRequest}, {`{"op":"receive","queue":"q","max":10001}`, "10000", CodeBadRequest}, {`{"op":"receive","queue":"q","wait":"25h"}`, "24h", CodeBadRequest}, {`{"op":"receive","queue":"q","lease":"0s"}`, "lease", CodeBadRequest}, {`{"op":"receive","queue":"q","lease":"25h"}`, "lease", CodeBadRequest}, {`{"op":"receive","queue":"q","ack":"maybe"}`, `"maybe"`, CodeBadRequest},
	{`{"op":"subscribe","queue":"q","credit":0}`, "credit", CodeBadRequest}, {`{"op":"subscribe","queue":"q","credit":1000001}`, "1000000", CodeBadRequest}, {`{"op":"queue.list","limit":1001}`, "1000", CodeBadRequest}, {`{"op":"queue.list","after":1}`, "after", CodeBadRequest}, {`{"op":"queue.peek","queue":"q","after":"1"}`, "after", CodeBadRequest}, {`{"op":"queue.peek","queue":"q","state":"dead"}`, "state", CodeBadRequest},
	{`{"op":"ack","queue":"q","seq":9007199254740992}`, "9007199254740991", CodeBadRequest}, {`{"op":"ack","queue":"q","seq":-0}`, "seq", CodeBadRequest}, {`{"op":"ack","queue":"q","seq":99999999999999999999}`, "seq", CodeBadRequest}, {`{"op":"ack","queue":"q","seq":[]}`, "seq", CodeBadRequest}, {`{"op":"ack","queue":"q","seq":1.5}`, "1.5", CodeBadRequest},
	{`{"op":"ack","queue":"q","seq":[1],"receipt":"a"}`, "shape", CodeBadRequest}, {`{"op":"ack","queue":"q","seq":1,"receipt":["a"]}`, "shape", CodeBadRequest}, {`{"op":"ack","queue":"q","seq":[1,2],"receipt":["a"]}`, "2, not 1", CodeBadRequest}, {`{"op":"ack","queue":"q","receipt":["a","b"],"seq":[1]}`, "1, not 2", CodeBadRequest}, {`{"op":"ack","queue":"q","seq":1,"receipt":""}`, "receipt", CodeBadRequest},
	{`{"op":"queue.create","queue":"q","storage":"tape"}`, "storage", CodeBadRequest}, {`{"op":"queue.create","queue":"q","overflow":"x"}`, "overflow", CodeBadRequest}, {`{"op":"queue.create","queue":"q","max_deliveries":65536}`, "65535", CodeBadRequest}, {`{"op":"queue.create","queue":"q","max_bytes":"1"}`, "max_bytes", CodeBadRequest}, {`{"op":"queue.create","queue":"q","dead_letter_expired":"x"}`, "dead_letter_expired", CodeBadRequest},
	{`{"op":"queue.create","queue":"q","retry":{"factor":0.5}}`, "retry.factor", CodeBadRequest}, {`{"op":"queue.create","queue":"q","retry":{"jitter":1.01}}`, "retry.jitter", CodeBadRequest}, {`{"op":"queue.create","queue":"q","retry":{"jitter":"1"}}`, "retry.jitter", CodeBadRequest}, {`{"op":"queue.create","queue":"q","retry":{"factor":1e999}}`, "retry.factor", CodeBadRequest}, {`{"op":"queue.create","queue":"q","retry":{"max":"1s","min":"2s"}}`, "retry.min", CodeBadRequest}, {`{"op":"queue.create","queue":"q","retry":{"max":"721h"}}`, "retry.max", CodeBadRequest},
	// Rule 11.
	{`{"op":"publish","queue":"q","encoding":"base64","body":1}`, "string", CodeBadRequest}, {`{"op":"publish","queue":"q","encoding":"hex","body":"00"}`, `"hex"`, CodeBadRequest}, {`{"op":"publish","queue":"q","encoding":null,"body":""}`, "encoding", CodeBadRequest}, {`{"op":"publish","queue":"q","body":"YQ","encoding":"base64"}`, "base64", CodeBadRequest},
	{`{"op":"publish","queue":"q","body":"YQ==\n","encoding":"base64"}`, "base64", CodeBadRequest}, {`{"op":"publish","queue":"q","body":"Y===","encoding":"base64"}`, "base64", CodeBadRequest}, {`{"op":"publish","queue":"q","body":"Y_-a","encoding":"base64"}`, "base64", CodeBadRequest}, {`{"op":"publish","queue":"q","body":"YQ=a","encoding":"base64"}`, "base64", CodeBadRequest}, {someBatch + `[{"body":"!","encoding":"base64"}]}`, "messages[0]", CodeBadRequest},
}

func TestRefused(t *testing.T) {
	for _, c := range refused {
		_, err := decode(t, c.line)
		if codeOf(err) != c.code || !strings.Contains(err.Message, c.names) {
			t.Errorf("%s:\n\tgot  %v\n\twant %s: ...%s...", c.line, err, c.code, c.names)
		}
	}
}

// Long values are refused by their limit, and the message does not repeat them.
func TestTooLong(t *testing.T) {
	long := strings.Repeat("x", 300)
	esc := strings.Repeat(`\u0078`, 300)
	for _, c := range []struct{ line, names string }{
		{`{"op":"publish","queue":"` + long + `","body":1}`, "queue"},
		{`{"op":"publish","queue":"` + strings.Repeat("é", 200) + `","body":1}`, "queue"},
		{`{"op":"publish","topic":"` + esc + `","body":1}`, "topic"},
		{`{"op":"publish","queue":"q","key":"` + long + `","body":1}`, "1 to 255 bytes long, not 300"},
		{`{"op":"publish","queue":"q","key":"` + strings.Repeat(esc, 9) + `","body":1}`, "key"},
		{`{"op":"publish","queue":"q","dedup_id":"` + long + `","body":1}`, "dedup_id"},
		{`{"op":"publish","queue":"q","headers":{"` + long + `":""},"body":1}`, "header"},
		{`{"op":"publish","queue":"q","headers":{"a":"` + strings.Repeat("x", 16<<10) + `"},"body":1}`, "16384"},
		{`{"op":"ping","id":"` + long + `"}`, "id"}, {`{"op":"ping","` + long + `":1}`, "unknown field"},
		{`{"op":"ack","queue":"q","seq":1,"receipt":"` + long + `"}`, "receipt"},
		{`{"op":"nack","queue":"q","seq":1,"reason":"` + strings.Repeat(long, 4) + `"}`, "1024"},
		{`{"op":"hello","client":"` + long + `"}`, "client"}, {`{"op":"queue.list","after":"` + long + `"}`, "after"},
		{`{"op":"receive","queue":"q","wait":"` + long + `"}`, "wait"},
		{`{"op":"receive","queue":"q","max":` + strings.Repeat("9", 300) + `}`, "max"},
		{someBatch + `[` + strings.Repeat(`{"body":1},`, MaxBatch) + `{"body":1}]}`, "1 to 10000 messages, not 10001"},
		{`{"op":"ack","queue":"q","seq":[` + strings.Repeat(`1,`, MaxSeqs) + `1]}`, "1 to 10000 numbers, not 10001"},
		{`{"op":"publish","queue":"q","body":"` + strings.Repeat("x", 300) + `!","encoding":"base64"}`, "base64"},
	} {
		r, err := decode(t, c.line)
		if codeOf(err) != CodeBadRequest || !strings.Contains(err.Message, c.names) {
			t.Errorf("%.60s: %v, want %s", c.line, err, c.names)
		} else if len(err.Message) > 300 {
			t.Errorf("%.60s: a message of %d bytes", c.line, len(err.Message))
		}
		if len(r.Messages) > MaxBatch || len(r.Seqs) > MaxSeqs {
			t.Errorf("%.60s: more was kept than fits", c.line)
		}
	}
	if _, err := decode(t, `{"op":"nope","x`+long+`":"","nope":1}`); codeOf(err) != CodeUnknownOp {
		t.Error(err)
	}
}

// Rule 10: the size of a body is its bytes.
func TestTooLarge(t *testing.T) {
	for n, want := range map[int]Code{1000: "", 1001: CodeMessageTooLarge} {
		body := `"` + strings.Repeat("x", n-2) + `"`
		if _, err := decode(t, `{"op":"publish","queue":"q","body":  `+body+`  }`); codeOf(err) != want {
			t.Errorf("%d: %v", n, err)
		}
		_, err := decode(t, someBatch+`[{"body":1},{"body":`+body+`}]}`)
		if codeOf(err) != want || err != nil && err.Message != "messages[1]: body is 1001 bytes long, more than the limit of 1000" {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// A secret stands in no message, whatever is wrong with it.
func TestSecrets(t *testing.T) {
	for _, s := range []string{"hush\xff", `hush\ud800`, strings.Repeat("hush", 3000)} {
		for _, line := range []string{`{"op":"hello","user":"u","password":"` + s + `"}`, `{"op":"hello","token":"` + s + `"}`} {
			if _, err := decode(t, line); err == nil || strings.Contains(err.Message, "hush") {
				t.Errorf("%.60q: %v", line, err)
			}
		}
	}
}

// Rule 6: a readable id is echoed although the request is refused.
func TestIDOfRefused(t *testing.T) {
	for line, want := range map[string]string{
		`{"id":7,"op":"nope"}`:                                     `7`,
		`{"op":"nope","id":"a\u0062"}`:                             `"a\u0062"`,
		`{"op":null,"queue":5,"id":-1.5e3}`:                        `-1.5e3`,
		`{"op":"publish","queue":"q","body":"x","x":[{}],"id":""}`: `""`,
		`{"id":7,"op":"ping",`:                                     `7`,
		`{"id":7,"op":"publish","body":[1,}`:                       `7`,
		`{"op":"publish","body":[1,},"id":7}`:                      ``,
		`{"op":"ping","id":tru}`:                                   ``,
		"{\"op\":\"publish\",\"queue\":\"\xff\",\"id\":3}":         `3`,
		`{"\u0069d":12,"op":"ping","quiet":true,"x":1}`:            `12`,
		someBatch + `[{"body":1,"id":5}],"id":6}`:                  `6`,
		`[{"id":7}]`: ``,
	} {
		r, err := decode(t, line)
		if err == nil || string(r.ID) != want {
			t.Errorf("%s: id %q, %v", line, r.ID, err)
		}
	}
}

// What is accepted, and what becomes of it.
func TestAccepted(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	for _, c := range []struct {
		line  string
		check func(r *Request) bool
	}{
		{`{"op":"ping"}`, func(r *Request) bool {
			return r.Op == OpPing && r.Set == 0 && r.ID == nil && !r.Quiet && r.Create && r.Count && r.Max == 1 && r.Credit == 1 && r.Limit == 100
		}},
		{" \t{ \"op\" : \"ping\" , \"id\" : 1 , \"quiet\" : true } \r", func(r *Request) bool { return r.Quiet && string(r.ID) == "1" && r.Set == FieldID|FieldQuiet }},
		{`{"body":{"op":"ping","op":1},"queue":"a.b_C-9","op":"publish"}`, func(r *Request) bool {
			m := r.Messages[0]
			return r.Op == OpPublish && string(r.Queue) == "a.b_C-9" && !r.Batch && string(m.Body) == `{"op":"ping","op":1}` && m.Set == FieldBody && m.Priority == 4 && m.Headers == nil
		}},
		{`{"\u006fp":"\u0070ublish","\u0071ueue":"\u0071","b\u006fdy":null}`, func(r *Request) bool { return string(r.Queue) == "q" && string(r.Messages[0].Body) == "null" }},
		{`{"op":"publish","topic":"a.b","create":false,"priority":9,"body":1,"delay":"1h30m","ttl":"1ns","dedup_id":"\u00e9","key":"\ud83d\ude00","stored":"memory_quorum","headers": {"a" : "b","c":"\ud83d\ude00"} }`, func(r *Request) bool {
			m := r.Messages[0]
			return string(r.Topic) == "a.b" && !r.Create && m.Priority == 9 && m.Delay == 90*time.Minute && m.TTL == 1 && string(m.DedupID) == "é" && string(m.Key) == "\U0001F600" &&
				string(m.Stored) == "memory_quorum" && string(m.Headers) == `{"a" : "b","c":"\ud83d\ude00"}` && !m.Set.Has(FieldAt) && m.Set.Has(FieldKey|FieldTTL|FieldDelay)
		}},
		{`{"op":"publish","queue":"q","at":"2026-01-02T04:04:05.0000006+01:00","headers":{ },"body":""}`, func(r *Request) bool {
			m := r.Messages[0]
			return m.At.Equal(at) && m.At.Location() == time.UTC && m.Headers == nil && m.Set == FieldAt|FieldHeaders|FieldBody
		}},
		{`{"op":"publish","queue":"q","body":"YWI\/","encoding":"base64"}`, func(r *Request) bool { return r.Messages[0].Base64 && string(r.Messages[0].Body) == `"YWI\/"` }},
		{`{"op":"publish","queue":"q","body":"\u002B+/=","encoding":"base64"}`, func(r *Request) bool { return r.Messages[0].Base64 }},
		{`{"op":"publish","queue":"q","body":"","encoding":"base64"}`, func(r *Request) bool { return r.Messages[0].Base64 }},
		{`{"op":"publish","queue":"q","stored":"disk","messages":[ {"body":1} , {"stored":"quorum","body":[2],"key":"k","priority":0} ]}`, func(r *Request) bool {
			a, b := r.Messages[0], r.Messages[1]
			return r.Batch && len(r.Messages) == 2 && string(a.Stored) == "disk" && a.Set == FieldBody|FieldStored && string(b.Stored) == "quorum" && string(b.Body) == "[2]" && b.Priority == 0 && a.Priority == 4 && string(b.Key) == "k"
		}},
		{`{"op":"receive","queue":"q","max":10000,"wait":"20s","lease":"1m","ack":"auto"}`, func(r *Request) bool {
			return r.Max == 10000 && r.Wait == 20*time.Second && r.Lease == time.Minute && r.AutoAck
		}},
		{`{"op":"subscribe","topic":"a.*.>","credit":100,"ack":"manual"}`, func(r *Request) bool { return r.Credit == 100 && !r.AutoAck && string(r.Topic) == "a.*.>" }},
		{`{"op":"unsubscribe","sub":9007199254740991}`, func(r *Request) bool { return r.Sub == MaxInteger }},
		{`{"op":"ack","queue":".e","seq":7,"receipt":"a\"b"}`, func(r *Request) bool {
			return !r.SeqArray && fmt.Sprint(r.Seqs) == "[7]" && string(r.Receipts[0]) == `a"b` && string(r.Queue) == ".e"
		}},
		{`{"op":"ack","queue":"q","receipt":[ "a","b" ],"seq":[ 1 , 2 ]}`, func(r *Request) bool {
			return r.SeqArray && fmt.Sprint(r.Seqs) == "[1 2]" && string(r.Receipts[1]) == "b"
		}},
		{`{"op":"nack","queue":"q","seq":[1],"delay":"0s","reason":"bad","dead":true,"count":false}`, func(r *Request) bool {
			return r.Set.Has(FieldDelay) && r.Delay == 0 && r.Dead && !r.Count && string(r.Reason) == "bad"
		}},
		{`{"op":"extend","queue":"q","seq":1,"lease":"5s"}`, func(r *Request) bool { return r.Lease == 5*time.Second }},
		{`{"op":"queue.create","queue":"q","storage":"file","max_messages":5,"max_bytes":6,"overflow":"drop_oldest","lease":"3s","max_deliveries":0,"retry":{"min":"0s","max":"5m","factor":1.5,"jitter":0.2},"ttl":"0s","dedup_window":"5m","dead_letter_expired":true}`, func(r *Request) bool {
			s := r.Settings
			return string(s.Storage) == "file" && s.MaxMessages == 5 && s.MaxBytes == 6 && string(s.Overflow) == "drop_oldest" && s.Lease == 3*time.Second && s.RetryMax == 5*time.Minute && s.RetryFactor == 1.5 &&
				s.RetryJitter == 0.2 && s.DedupWindow == 5*time.Minute && s.DeadLetterExpired && r.Set == FieldQueue|settingFields
		}},
		{`{"op":"queue.update","queue":"q","ttl":"5s","retry":{}}`, func(r *Request) bool {
			return r.Settings.TTL == 5*time.Second && r.Set == FieldQueue|FieldTTL|FieldRetry
		}},
		{`{"op":"queue.list","prefix":"or","after":"orders","limit":5}`, func(r *Request) bool {
			return string(r.Prefix) == "or" && string(r.After) == "orders" && r.Limit == 5
		}},
		{`{"op":"queue.peek","queue":"q","after":17,"state":"leased"}`, func(r *Request) bool { return r.AfterSeq == 17 && string(r.State) == "leased" }},
		{`{"op":"queue.reschedule","queue":"q","seq":4,"at":"2026-01-02T03:04:05.0000006Z"}`, func(r *Request) bool { return r.At.Equal(at) && r.Seqs[0] == 4 }},
		{`{"op":"queue.redrive","queue":"q.dlq","to":"q","max":20000}`, func(r *Request) bool { return string(r.To) == "q" && r.Max == 20000 }},
		{`{"op":"hello","user":"u","password":"p\u0000","client":"c","protocol":1}`, func(r *Request) bool {
			return string(r.User) == "u" && string(r.Password) == "p\x00" && string(r.Client) == "c" && r.Protocol == 1
		}},
		{`{"op":"publish","queue":"q","body":1,"headers":{` + manyHeaders(1000) + `}}`, func(r *Request) bool { return len(r.Messages[0].Headers) == len(manyHeaders(1000))+2 }},
		{`{"op":"hello","token":"t"}`, func(r *Request) bool { return string(r.Token) == "t" }},
		{`{"op":"hello"}`, func(r *Request) bool { return r.Op == OpHello }},
		{`{"op":"hello","mechanism":"SCRAM-SHA-256","data":"YQ=="}`, func(r *Request) bool { return string(r.Mechanism) == "SCRAM-SHA-256" && string(r.Data) == "YQ==" }},
		{`{"op":"user.grant","user":"a@b.c:/+","allow":["publish:a.*","*:>"],"deny":[],"revoke":["peek:a..b"]}`, func(r *Request) bool {
			return string(r.User) == "a@b.c:/+" && len(r.Allow) == 2 && string(r.Allow[1]) == "*:>" && len(r.Deny) == 0 && r.Set.Has(FieldDeny) && string(r.Revoke[0]) == "peek:a..b"
		}},
		{`{"op":"token.add","name":"t","ttl":"1h","user":"u"}`, func(r *Request) bool { return string(r.Name) == "t" && r.TTL == time.Hour && string(r.User) == "u" }},
		{`{"op":"auth.check","user":"u","verb":"peek","name":"a.>"}`, func(r *Request) bool { return string(r.Verb) == "peek" && string(r.Name) == "a.>" }},
		{`{"op":"user.list","prefix":"@","after":"a/b","limit":3}`, func(r *Request) bool { return string(r.After) == "a/b" && r.Limit == 3 }},
	} {
		r, err := decode(t, c.line)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
		} else if !c.check(r) {
			t.Errorf("%s: got %+v", c.line, r)
		}
	}
}

// Every field has a name, a reader and an op that may have it; every op a name.
func TestTables(t *testing.T) {
	var used Field
	for o := OpNone + 1; o < opCount; o++ {
		used |= OpFields(o)
		if o.String() == "" || ParseOp([]byte(o.String())) != o {
			t.Errorf("op %d: %q", o, o)
		}
		if extra := (ops[o].needs | ops[o].one) &^ OpFields(o); extra != 0 {
			t.Errorf("%s needs %s, which it may not have", o, FieldName(extra))
		}
	}
	if used != fieldEnd-1 || Field(1)<<len(fieldNames) != fieldOperation<<1 {
		t.Errorf("no op has %s; %d names", FieldName((fieldEnd-1)&^used), len(fieldNames))
	}
	for f := Field(1); f < fieldEnd; f <<= 1 {
		if retryFields&f == 0 && lookup([]byte(FieldName(f))) != f || FieldName(f) == "" {
			t.Errorf("%q", FieldName(f))
		}
		// Each reader refuses what is of no type that a field has.
		line := `{"op":"ping","` + strings.TrimPrefix(FieldName(f), "retry.") + `":null}`
		if _, err := decode(t, line); err == nil {
			t.Errorf("%s passed", line)
		}
	}
	if OpNone.String() != "none" || Op(200).String() != "none" || OpFields(OpNone) != 0 || ParseOp(nil) != OpNone || FieldName(0) != "none" {
		t.Error("what is no op has a name")
	}
}

func TestNames(t *testing.T) {
	x255 := strings.Repeat("x", 255)
	for s, want := range map[string][4]bool{ // queue, ephemeral, topic, pattern
		"": {}, "a": {true, false, true, true}, ".a": {false, true, false, false}, ".": {}, "..": {false, true, false, false}, "a.": {true, false, false, false}, "a..b": {true, false, false, false},
		"A-Z_09.z": {true, false, true, true}, "a b": {}, "é": {}, "a\x00": {}, "*": {false, false, false, true}, ">": {false, false, false, true}, "a.*": {false, false, false, true},
		"a.>": {false, false, false, true}, ">.a": {}, "a*": {}, "a.>b": {}, "*.*.>": {false, false, false, true}, "*>": {}, "a.*b.c": {}, ".>": {}, "**": {},
		x255: {true, false, true, true}, x255 + "x": {}, "a/b": {}, "a:b": {}, "a@b": {}, "a[b": {}, "a`b": {}, "a{b": {}, "a,b": {},
	} {
		b := []byte(s)
		if got := [4]bool{ValidQueueName(b), ValidEphemeralName(b), ValidTopic(b), ValidPattern(b)}; got != want {
			t.Errorf("%.20q: %v, want %v", s, got, want)
		}
	}
}

// What one line leaves behind must not show in the next.
func TestReuse(t *testing.T) {
	d, r := NewDecoder(0), &Request{}
	for range 3 {
		for _, line := range fuzzLines {
			fresh := &Request{}
			want := NewDecoder(0).Decode([]byte(line), fresh)
			got := d.Decode([]byte(line), r)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s: %v, fresh %v", line, got, want)
			}
			if got == nil && fmt.Sprintf("%+v", *r) != fmt.Sprintf("%+v", *fresh) {
				t.Fatalf("%s:\n%+v\n%+v", line, *r, *fresh)
			}
		}
	}
}

func TestErrorf(t *testing.T) {
	e := Errorf(CodeBadRequest, "%q, %s", strings.Repeat("é", 100)+"x", []byte("a\xff"))
	if !utf8.ValidString(e.Message) || len(e.Message) > 90 || !strings.Contains(e.Message, "é…") {
		t.Errorf("%q", e.Message)
	}
	if e := Errorf(CodeBadRequest, "%s", strings.Repeat("\x80", 500)); !utf8.ValidString(e.Message) || len(e.Message) > 90 {
		t.Errorf("%q", e.Message)
	}
	if got := Errorf(CodeNotFound, "no queue %q", "a").Error(); got != `not_found: no queue "a"` {
		t.Error(got)
	}
	n := 0
	for _, c := range strings.Fields("bad_json bad_request unknown_op line_too_long unauthenticated forbidden not_found exists too_many_queues too_many_connections message_too_large queue_full lease_lost paused not_stored no_quorum unknown_outcome disk_full overloaded rate_limited shutting_down internal") {
		if Code(c).Retryable() {
			n++
		}
	}
	if n != 9 {
		t.Errorf("%d codes are retryable", n)
	}
}
