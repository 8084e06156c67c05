package wire_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// What a field may be in JSON.
const (
	text    = "string"
	number  = "number"
	boolean = "boolean"
	object  = "object"
	array   = "array"
)

// samples are a value of each kind. Each is of the wrong kind somewhere.
var samples = map[string]string{
	text: `"1"`, number: `1`, boolean: `true`, object: `{}`, array: `[]`, "null": `null`,
}

// fieldKinds are the kinds that a field takes, as the table of operations has them.
var fieldKinds = map[string][]string{
	"id": {text, number}, "quiet": {boolean}, "queue": {text}, "topic": {text}, "messages": {array}, "headers": {object}, "encoding": {text},
	"key": {text}, "priority": {number}, "delay": {text}, "at": {text}, "ttl": {text}, "dedup_id": {text}, "stored": {text}, "create": {boolean},
	"max": {number}, "wait": {text}, "lease": {text}, "ack": {text}, "credit": {number}, "sub": {number}, "seq": {number, array},
	"receipt": {text, array}, "reason": {text}, "dead": {boolean}, "count": {boolean}, "prefix": {text}, "limit": {number},
	"user": {text}, "password": {text}, "token": {text}, "client": {text}, "protocol": {number}, "state": {text}, "to": {text},
	"storage": {text}, "max_messages": {number}, "max_bytes": {number}, "overflow": {text}, "max_deliveries": {number}, "retry": {object},
	"dedup_window": {text}, "dead_letter_expired": {boolean}, "after": {text, number},
}

const settingNames = "storage max_messages max_bytes overflow lease max_deliveries retry ttl dedup_window dead_letter_expired"

// opFields are the fields of each operation besides id and quiet, and the part of a request that it cannot do without.
var opFields = []struct{ op, fields, base string }{
	{"hello", "user password token client protocol", ``},
	{"ping", "", ``},
	{"publish", "queue topic messages headers encoding key priority delay at ttl dedup_id stored create", `"queue":"q","body":"AA=="`},
	{"receive", "queue max wait lease ack create", `"queue":"q"`},
	{"subscribe", "queue topic credit lease ack create", `"queue":"q"`},
	{"unsubscribe", "sub", `"sub":1`},
	{"ack", "queue seq receipt", `"queue":"q","seq":1`},
	{"nack", "queue seq receipt delay reason dead count", `"queue":"q","seq":1`},
	{"extend", "queue seq receipt lease", `"queue":"q","seq":1,"lease":"1s"`},
	{"queue.create", "queue " + settingNames, `"queue":"q"`},
	{"queue.update", "queue " + settingNames, `"queue":"q"`},
	{"queue.delete", "queue", `"queue":"q"`},
	{"queue.purge", "queue state", `"queue":"q"`},
	{"queue.pause", "queue", `"queue":"q"`},
	{"queue.resume", "queue", `"queue":"q"`},
	{"queue.list", "prefix after limit", ``},
	{"queue.info", "queue", `"queue":"q"`},
	{"queue.peek", "queue state after limit", `"queue":"q"`},
	{"queue.explain", "queue seq", `"queue":"q","seq":1`},
	{"queue.cancel", "queue seq", `"queue":"q","seq":1`},
	{"queue.reschedule", "queue seq delay at", `"queue":"q","seq":1`},
	{"queue.redrive", "queue to max", `"queue":"q"`},
	{"queue.bind", "queue topic", `"queue":"q","topic":"a"`},
	{"queue.unbind", "queue topic", `"queue":"q","topic":"a"`},
	{"server.info", "", ``},
}

// request is one of op with one field set to value.
func request(op, base, field, value string) string {
	line := fmt.Sprintf(`{"op":%q,%q:%s`, op, field, value)
	for part := range strings.SplitSeq(base, `,"`) {
		if part = strings.TrimPrefix(part, `"`); part != "" && !strings.HasPrefix(part, field+`"`) {
			line += `,"` + part
		}
	}
	return line + "}"
}

// Rule 3: a value of the wrong type is bad_request, for every field of every operation.
func TestWrongTypes(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	n := 0
	for _, op := range opFields {
		for _, field := range append(strings.Fields(op.fields), "id", "quiet") {
			for kind, value := range samples {
				if slices.Contains(fieldKinds[field], kind) {
					continue
				}
				n++
				line := request(op.op, op.base, field, value)
				if l := c.Do("%s", line); l.Code() != "bad_request" || !strings.Contains(l.Message(), field) {
					t.Errorf("rule 3: %s\n  gives %s", line, l.Raw)
				}
			}
		}
	}
	if n < 400 {
		t.Errorf("only %d requests were made", n)
	}
	alive(t, c)
	wantCounts(t, c, "q", 1, map[string]int64{"ready": 1})
}

// Rules 3 and 5: values of the right type that cannot be.
func TestWrongValues(t *testing.T) {
	c := harness.Start(t, "").Dial(t)
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	integers := []string{`-1`, `1.5`, `1e2`, `1.0`, `9007199254740992`, `18446744073709551616`, `1e400`}
	durations := []string{`""`, `"5"`, `"-1s"`, `"1 s"`, `"1d"`, `"s"`, `"1s1"`, `"9999999999h"`, `"NaN"`, `"\u0000"`}
	values := map[string][]string{
		"max": append(integers, `0`), "credit": append(integers, `0`), "limit": append(integers, `0`), "sub": integers,
		"max_messages": integers, "max_bytes": integers, "max_deliveries": integers, "protocol": integers, "seq": append(integers, `[1,-1]`, `[1.5]`, `["1"]`, `[[1]]`, `[null]`),
		"wait": durations, "lease": append(durations, `"0s"`, `"-1ms"`), "delay": durations, "ttl": durations, "dedup_window": durations,
		"priority": append(integers, `10`), "state": {`"gone"`, `"READY"`}, "stored": {`"tape"`, `""`}, "to": {`""`, `"a b"`, `".a"`},
		"at":  {`""`, `"tomorrow"`, `"2190-01-02"`, `"2190-13-02T03:04:05Z"`, `"1969-12-31T23:59:59Z"`, `"2200-01-01T00:00:00Z"`},
		"key": {`"` + strings.Repeat("k", 256) + `"`}, "dedup_id": {`"` + strings.Repeat("d", 256) + `"`},
		"topic": {`""`, `"a..b"`, `".a"`, `"a."`, `"a.>.b"`, `"a*"`, `"a b"`, `"` + strings.Repeat("t", 256) + `"`},
		"ack":   {`"yes"`, `""`, `"AUTO"`}, "storage": {`"disk"`, `""`, `"File"`}, "overflow": {`"drop"`, `""`},
		"receipt": {`[1]`, `[null]`}, "prefix": {`"a b"`, `"\u0000"`, `"ü"`},
		"retry": {`{"min":"x"}`, `{"max":1}`, `{"min":"2s","max":"1s"}`, `{"factor":"2"}`, `{"factor":0.5}`, `{"jitter":2}`, `{"jitter":-0.1}`, `{"factor":1e400}`, `{"min":"-1s"}`},
	}
	for _, op := range opFields {
		for _, field := range strings.Fields(op.fields) {
			for _, value := range values[field] {
				line := request(op.op, op.base, field, value)
				if l := c.Do("%s", line); l.Code() != "bad_request" {
					t.Errorf("rule 3: %s\n  gives %s", line, l.Raw)
				}
			}
		}
	}
	alive(t, c)
	wantCounts(t, c, "q", 1, map[string]int64{"ready": 1})
}
