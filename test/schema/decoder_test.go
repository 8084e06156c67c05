package schema

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/wire"
)

// samples are values for every field: what is right for some operation, what is at a limit and beyond it,
// and values of other types.
var samples = []string{
	`true`, `false`, `null`, `0`, `1`, `9`, `10`, `-1`, `1.5`, `10000`, `10001`, `65536`, `1000000`, `1000001`, `9007199254740991`, `9007199254740992`,
	`""`, `"a"`, `"a.b"`, `".a"`, `".c1.s1"`, `"a b"`, `"a.*"`, `"a.>"`, `">"`, `"a..b"`, `"ann@example.org"`, `"publish"`, `"reject"`, `"file"`, `"disk"`,
	`"ready"`, `"auto"`, `"base64"`, `"YWI="`, `"YWI"`, `"30s"`, `"1h30m"`, `"0"`, `"1.5s"`, `"s"`, `"2026-11-23T00:00:00Z"`, `"2026-11-23"`,
	`[]`, `[1]`, `[1,2]`, `["a"]`, `["publish:a"]`, `["eat:a"]`, `{}`, `{"a":"b"}`, `{"a":1}`, `{"":"b"}`, `{"min":"1s"}`, `{"min":1}`, `{"factor":0.5}`, `{"jitter":1}`,
	`[{"body":1}]`, `[{"body":1,"key":"a"}]`, `[{}]`, `[{"body":1,"queue":"a"}]`, `[{"body":"YWI=","encoding":"base64"}]`, `[{"body":1,"encoding":"base64"}]`,
	`[{"body":1,"delay":"1s","at":"2026-11-23T00:00:00Z"}]`,
	`"` + strings.Repeat("x", 64) + `"`, `"` + strings.Repeat("x", 65) + `"`, `"` + strings.Repeat("x", 255) + `"`, `"` + strings.Repeat("x", 256) + `"`,
	`"` + strings.Repeat("x", 1024) + `"`, `"` + strings.Repeat("x", 1025) + `"`, `"` + strings.Repeat("x", 2049) + `"`,
}

// laxer are the fields of which a schema cannot say all that the server looks at: a duration's range, the
// pattern in a right, numbers that depend on each other. There the server may refuse what the schema allows;
// never the other way round.
var laxer = map[string]bool{
	"delay": true, "ttl": true, "wait": true, "lease": true, "retry": true, "dedup_window": true, "at": true,
	"allow": true, "deny": true, "revoke": true, "receipt": true, "messages": true, "protocol": true,
}

// good are values with which fields that are needed are filled.
var good = map[string]string{
	"queue": `"a"`, "topic": `"a.b"`, "body": `1`, "seq": `1`, "sub": `1`, "lease": `"30s"`, "user": `"ann"`, "name": `"ci"`, "verb": `"publish"`,
	"delay": `"1s"`, "password": `"x"`, "data": `"YQ=="`, "to": `"b"`,
}

// A line is one that is built of fields.
func line(op wire.Op, fields map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"op":%q`, op.String())
	for name, value := range fields {
		fmt.Fprintf(&b, `,%q:%s`, name, value)
	}
	return b.String() + "}"
}

// least are the fields without which an operation is nothing, with good values.
func least(t *testing.T, op wire.Op) map[string]string {
	needs, one := wire.OpNeeds(op)
	fields := map[string]string{}
	for _, name := range append(fieldsOf(needs), fieldsOf(one&-one)...) {
		if good[name] == "" {
			t.Errorf("%s needs %s, of which this test knows no value", op, name)
		}
		fields[name] = good[name]
	}
	if op == wire.OpPublish {
		fields["body"] = `1`
	}
	return fields
}

// For every operation, every field and every sample: the schema refuses what the decoder refuses, and nothing else.
func TestSchemaAgreesWithTheDecoder(t *testing.T) {
	definition := compile(t, false)
	decoder := wire.NewDecoder(1 << 20)
	tried, both := 0, 0
	for _, op := range wire.Ops() {
		schema := definition("request." + op.String())
		judge := func(field string, fields map[string]string) {
			t.Helper()
			text := line(op, fields)
			var r wire.Request
			server, machine := decoder.Decode([]byte(text), &r), schema.Validate(instance(t, text))
			tried++
			switch {
			case (server == nil) == (machine == nil):
				both++
			case server == nil && field == "password" && fields["password"] == `""`:
				// The decoder lets it pass; internal/auth refuses it.
			case server == nil:
				t.Errorf("the schema refuses what the server takes: %.200s\n%v", text, machine)
			case !laxer[field]:
				t.Errorf("the schema takes what the server refuses: %.200s\n%v", text, server)
			}
		}
		minimal := least(t, op)
		judge("", minimal)
		for name := range minimal {
			rest := least(t, op)
			delete(rest, name)
			judge("", rest)
		}
		names := append(fieldsOf(^wire.Field(0)), "stranger")
		for _, name := range names {
			if name == "none" || name == "op" {
				continue
			}
			for _, value := range samples {
				fields := least(t, op)
				fields[name] = value
				if _, one := wire.OpNeeds(op); name == "topic" && one != 0 {
					delete(fields, "queue")
				}
				if name == "messages" {
					delete(fields, "body")
				}
				judge(name, fields)
			}
		}
	}
	if tried < 50_000 || both < tried*99/100 {
		t.Errorf("only %d lines were tried, and of %d the verdict was the same", tried, both)
	}
}

// What holds between fields.
func TestCombinations(t *testing.T) {
	definition := compile(t, false)
	decoder := wire.NewDecoder(1 << 20)
	for _, text := range []string{
		`{"op":"publish","queue":"a","topic":"b","body":1}`, `{"op":"publish","queue":"a"}`, `{"op":"publish","queue":"a","messages":[{"body":1}],"body":1}`,
		`{"op":"publish","queue":"a","messages":[{"body":1}],"key":"a"}`, `{"op":"publish","queue":"a","messages":[{"body":1}],"stored":"disk"}`,
		`{"op":"publish","queue":"a","body":1,"delay":"1s","at":"2026-11-23T00:00:00Z"}`, `{"op":"publish","queue":"a","body":"YWI=","encoding":"base64"}`,
		`{"op":"publish","queue":"a","body":12,"encoding":"base64"}`, `{"op":"subscribe","topic":"a.>"}`, `{"op":"subscribe","queue":"a","topic":"a.>"}`,
		`{"op":"queue.reschedule","queue":"a","seq":1}`, `{"op":"queue.reschedule","queue":"a","seq":1,"at":"2026-11-23T00:00:00Z"}`,
		`{"op":"hello","user":"a"}`, `{"op":"hello","password":"a"}`, `{"op":"hello","user":"a","password":"b"}`, `{"op":"hello","token":"a"}`,
		`{"op":"hello","token":"a","user":"a","password":"b"}`, `{"op":"hello","mechanism":"SCRAM-SHA-256"}`, `{"op":"hello","mechanism":"SCRAM-SHA-256","data":"YQ=="}`,
		`{"op":"hello","data":"YQ==","token":"a"}`, `{"op":"ack","queue":".c1.s1","seq":[1,2],"receipt":["a","b"]}`, `{"queue":"a"}`, `{"op":"nonsense"}`, `{"op":1}`, `{}`,
		`{"op":"ping","id":"a"}`, `{"op":"ping","id":1.5}`, `{"op":"ping","id":true}`, `{"op":"ping","id":null}`, `{"op":"ping","quiet":1}`,
	} {
		var r wire.Request
		server, machine := decoder.Decode([]byte(text), &r), definition("request").Validate(instance(t, text))
		if (server == nil) != (machine == nil) {
			t.Errorf("%s\nserver: %v\nschema: %v", text, server, machine)
		}
	}
}
