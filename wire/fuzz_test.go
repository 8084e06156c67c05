package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var fuzzLines = []string{
	`{"op":"publish","queue":"orders","id":7,"body":{"a":[1,2.5e3,"x\u00e9",null,true]},"key":"k","priority":3,"ttl":"5m","headers":{"traceparent":"00-1"},"dedup_id":"d","stored":"disk","delay":"1.5s"}`,
	`{"op":"publish","topic":"a.b","body":"aGk=","encoding":"base64","at":"2026-01-02T03:04:05.123Z","create":false}`,
	`{"op":"publish","queue":"q","messages":[{"body":1},{"body":[{}],"key":"\u006b","headers":{"a":"b","c":"d"}},{"body":null,"delay":"1h"}]}`,
	`{"op":"receive","queue":"q","max":10,"wait":"20s","lease":"1m","ack":"auto"}`, `{"op":"subscribe","topic":"a.*.>","credit":100}`, `{"op":"unsubscribe","sub":3}`,
	`{"op":"ack","queue":"q","seq":[1,2,3],"receipt":["a","b","c"]}`, `{"op":"nack","queue":"q","seq":1,"delay":"0s","reason":"x","dead":true,"count":false}`, `{"op":"extend","queue":"q","seq":1,"receipt":"r","lease":"10s"}`,
	`{"op":"queue.create","queue":"q","storage":"file","max_messages":5,"max_bytes":6,"overflow":"reject","lease":"3s","max_deliveries":0,"retry":{"min":"0s","max":"5m","factor":1.5,"jitter":0.2},"ttl":"0s","dedup_window":"5m","dead_letter_expired":true}`,
	`{"op":"queue.list","prefix":"or","after":"orders","limit":5}`, `{"op":"queue.peek","queue":"q","after":17,"state":"leased"}`, `{"op":"queue.reschedule","queue":"q","seq":4,"delay":"3s"}`, `{"op":"queue.redrive","queue":"q.dlq","to":"q","max":20000}`,
	`{"op":"hello","user":"u","password":"p","client":"c","protocol":1}`, `{"op":"hello","token":"t","quiet":true}`, `{"op":"queue.bind","queue":"q","topic":"a.>"}`, `{"op":"ping"}`, `{}`, `{"op":"nope"}`,
	`{"op":"hello","mechanism":"SCRAM-SHA-256","data":"biws","client":"c"}`, `{"op":"user.grant","user":"a@b","allow":["publish:a.*"],"deny":["*:>"],"revoke":[]}`, `{"op":"token.add","name":"t","ttl":"1h"}`, `{"op":"auth.check","user":"u","verb":"peek","name":"a.>"}`,
	`{"operation":"P","queue":"q","payload":"","auth":{"user":"","password":""}}`, " { \"op\" : \"ping\" , \"\\u0069d\" : \"x\" } \r",
}

// FuzzDecode holds the decoder against encoding/json: both agree on what is
// JSON, and what passes has the values that encoding/json reads.
func FuzzDecode(f *testing.F) {
	for _, line := range fuzzLines {
		f.Add([]byte(line))
	}
	for _, c := range refused {
		f.Add([]byte(c.line))
	}
	for _, v := range append(slices.Clone(goodValues), badValues...) {
		f.Add([]byte(`{"op":"publish","queue":"q","body":` + v + `}`))
	}
	f.Fuzz(func(t *testing.T, line []byte) { differential(t, NewDecoder(1<<16), &Request{}, line) })
}

func differential(t *testing.T, d *Decoder, r *Request, line []byte) {
	before := bytes.Clone(line)
	err := d.Decode(line, r)
	if !bytes.Equal(before, line) {
		t.Fatal("the line was written to")
	}
	if r.ID != nil && (!json.Valid(r.ID) || !utf8.Valid(r.ID)) {
		t.Fatalf("%q: the id %q is no JSON", line, r.ID)
	}
	object := json.Valid(line) && bytes.TrimLeft(line, " \t\r\n")[0] == '{'
	if err != nil {
		if !utf8.ValidString(err.Message) || len(err.Message) > 600 {
			t.Fatalf("%q: the message %q", line, err.Message)
		}
		if object == (err.Code == CodeBadJSON) && bytes.Count(line, []byte("["))+bytes.Count(line, []byte("{")) < 9000 {
			t.Fatalf("%q: %v, but encoding/json says %v", line, err, object)
		}
		return
	}
	if !object || !utf8.Valid(line) {
		t.Fatalf("%q passed, but is no JSON object in UTF-8", line)
	}
	compare(t, line, r)
}

// TestMutations changes one byte of good lines, everywhere.
func TestMutations(t *testing.T) {
	d, r := NewDecoder(1<<16), &Request{}
	for _, line := range fuzzLines {
		for i := range len(line) {
			differential(t, d, r, []byte(line[:i]+line[i+1:]))
			for _, c := range []byte("\"\\{}[],:019e.-ux n\x00\n\x80\xc3") {
				differential(t, d, r, []byte(line[:i]+string([]byte{c})+line[i+1:]))
				differential(t, d, r, []byte(line[:i]+string([]byte{c})+line[i:]))
			}
		}
	}
}

// compare checks a request against what encoding/json reads in its line.
func compare(t *testing.T, line []byte, r *Request) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(line, &fields); err != nil {
		t.Fatal(err)
	}
	want := 1 // for op
	for f := Field(1); f < fieldEnd; f <<= 1 {
		if r.Set&f != 0 && retryFields&f == 0 {
			want++
			if _, ok := fields[FieldName(f)]; !ok {
				t.Fatalf("%s is said to be there", FieldName(f))
			}
		}
	}
	if want != len(fields) {
		t.Fatalf("%d fields, %d of them seen", len(fields), want)
	}
	is := func(name string, got []byte) {
		if raw, ok := fields[name]; ok && got != nil {
			var s string
			if err := json.Unmarshal(raw, &s); err != nil || s != string(got) {
				t.Fatalf("%s is %q, not %s", name, got, raw)
			}
		}
	}
	is("op", []byte(r.Op.String()))
	is("queue", r.Queue)
	is("topic", r.Topic)
	is("user", r.User)
	is("password", r.Password)
	is("token", r.Token)
	is("client", r.Client)
	is("reason", r.Reason)
	is("prefix", r.Prefix)
	is("after", r.After)
	is("state", r.State)
	is("to", r.To)
	is("storage", r.Settings.Storage)
	is("overflow", r.Settings.Overflow)
	if raw, ok := fields["id"]; ok && !bytes.Equal(raw, r.ID) {
		t.Fatalf("id is %s, not %s", r.ID, raw)
	}
	for name, got := range map[string]any{
		"max": r.Max, "credit": r.Credit, "limit": r.Limit, "sub": r.Sub, "protocol": r.Protocol, "quiet": r.Quiet, "create": r.Create, "dead": r.Dead, "count": r.Count,
		"max_messages": r.Settings.MaxMessages, "max_bytes": r.Settings.MaxBytes, "max_deliveries": r.Settings.MaxDeliveries, "dead_letter_expired": r.Settings.DeadLetterExpired,
	} {
		if raw, ok := fields[name]; ok && fmt.Sprint(got) != string(raw) {
			t.Fatalf("%s is %v, not %s", name, got, raw)
		}
	}
	if raw, ok := fields["seq"]; ok {
		got, _ := json.Marshal(r.Seqs)
		if bare := strings.Map(dropSpace, string(raw)); r.SeqArray && bare != string(got) || !r.SeqArray && "["+bare+"]" != string(got) {
			t.Fatalf("seq is %s, not %s", got, raw)
		}
	}
	compareDurations(t, fields, map[string]time.Duration{"wait": r.Wait, "lease": r.Lease, "dedup_window": r.Settings.DedupWindow})
	if r.Op != OpPublish {
		return
	}
	if !r.Batch {
		compareMessage(t, fields, &r.Messages[0])
		return
	}
	var items []map[string]json.RawMessage
	if err := json.Unmarshal(fields["messages"], &items); err != nil || len(items) != len(r.Messages) {
		t.Fatalf("%d messages, not %d: %v", len(r.Messages), len(items), err)
	}
	for i, item := range items {
		compareMessage(t, item, &r.Messages[i])
	}
}

func dropSpace(r rune) rune {
	if strings.ContainsRune(" \t\r\n", r) {
		return -1
	}
	return r
}

func compareDurations(t *testing.T, fields map[string]json.RawMessage, got map[string]time.Duration) {
	for name, d := range got {
		if raw, ok := fields[name]; ok {
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				t.Fatal(err)
			}
			if std, err := time.ParseDuration(s); err != nil || std != d {
				t.Fatalf("%s of %q is %v, not %v (%v)", name, s, d, std, err)
			}
		}
	}
}

func compareMessage(t *testing.T, fields map[string]json.RawMessage, m *Message) {
	if !bytes.Equal(fields["body"], m.Body) {
		t.Fatalf("body is %q, not %q", m.Body, fields["body"])
	}
	compareDurations(t, fields, map[string]time.Duration{"delay": m.Delay, "ttl": m.TTL})
	for name, got := range map[string][]byte{"key": m.Key, "dedup_id": m.DedupID, "stored": m.Stored} {
		if raw, ok := fields[name]; ok {
			var s string
			if err := json.Unmarshal(raw, &s); err != nil || s != string(got) {
				t.Fatalf("%s is %q, not %s", name, got, raw)
			}
		}
	}
	if raw, ok := fields["headers"]; ok {
		h := map[string]string{}
		if err := json.Unmarshal(raw, &h); err != nil || m.Headers != nil && !bytes.Equal(raw, m.Headers) || (m.Headers == nil) != (len(h) == 0) {
			t.Fatalf("headers are %q, not %q: %v", m.Headers, raw, err)
		}
	}
	if raw, ok := fields["priority"]; ok && fmt.Sprint(m.Priority) != string(raw) {
		t.Fatalf("priority is %d, not %s", m.Priority, raw)
	}
	if raw, ok := fields["at"]; ok {
		var at time.Time
		if err := json.Unmarshal(raw, &at); err != nil || !at.Equal(m.At) {
			t.Fatalf("at is %v, not %s: %v", m.At, raw, err)
		}
	}
	if m.Base64 {
		var s string
		if err := json.Unmarshal(m.Body, &s); err != nil {
			t.Fatal(err)
		}
		if _, err := base64.StdEncoding.DecodeString(s); err != nil {
			t.Fatalf("%q passed as base64: %v", s, err)
		}
	}
}

// FuzzDuration holds the parser against the one of package time.
func FuzzDuration(f *testing.F) {
	for _, s := range []string{
		"", "0", "+0", "-0", "00", "1", "1s", "+1s", "-1s", "1.s", ".1s", ".s", "1.5h", "1h30m", "1h-30m", "1us", "1µs", "1μs", "1ns", "1ms", "1d", "1 s", "s", "1.1.1s",
		"9223372036854775807ns", "9223372036854775808ns", "-9223372036854775808ns", "-9223372036854775809ns", "2562047h47m16.854775807s", "2562047h47m16.854775808s", "2562048h",
		"0.3333333333333333333h", "0.9223372036854775807h", "0.9223372036854775808h", "0.100000000000000000000h", "0.830103483285477580700h", "922337203685477580.8ns", "3000000h", "1e3s", "1h1h1h",
		"9223372036854775.808us", "1.00000000000000000000000000000s", "52763797000ns", "5m2s.5s", "1S",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		std, err := time.ParseDuration(s)
		if got, ok := parseDuration([]byte(s)); ok != (err == nil) || ok && got != std {
			if !ok && std == 0 && strings.Contains(s, "922337203685477") {
				return // two halves of 2^64: package time lets the sum wrap
			}
			t.Fatalf("%q is %v, %v, not %v, %v", s, got, ok, std, err)
		}
	})
}

// FuzzString: whatever the bytes, encoding/json reads back what went in, with
// U+FFFD for what is no UTF-8; and headers merge into valid JSON.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", "abc", "\x00\x1f\"\\\b\n\r\t\f", "é€\U0001F600", "a\xffb", "\xed\xa0\x80", "\xf0\x9f\x98", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := AppendString([]byte("x"), s)[1:]
		if !bytes.Equal(quoted, AppendString(nil, []byte(s))) {
			t.Fatal("bytes and string differ")
		}
		var got string
		if err := json.Unmarshal(quoted, &got); err != nil || !utf8.Valid(quoted) || got != string([]rune(s)) {
			t.Fatalf("%q became %s, %q: %v", s, quoted, got, err)
		}
		headers := append(append([]byte(`{"gmq-dead-seq":"9",`), quoted...), `:"1"}`...)
		out := AppendDeadHeaders(nil, headers, &DeadInfo{Queue: "q", Seq: 5, Attempts: 3, Reason: []byte(s)})
		all := map[string]string{}
		if err := json.Unmarshal(out, &all); err != nil || all[HeaderDeadSeq] != "5" || all[HeaderDeadReason] != got {
			t.Fatalf("%s: %v", out, err)
		}
	})
}

// FuzzFrame: the client's reader agrees with encoding/json on what is JSON.
func FuzzFrame(f *testing.F) {
	for _, s := range frames {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		fr := &Frame{}
		err := DecodeFrame(line, fr)
		object := json.Valid(line) && bytes.TrimLeft(line, " \t\r\n")[0] == '{'
		if object != (err == nil) && bytes.Count(line, []byte("["))+bytes.Count(line, []byte("{")) < 9000 {
			t.Fatalf("%v, but encoding/json says %v", err, object)
		}
	})
}

// FuzzAgain: what a decoder has read before changes nothing of what the next line means.
func FuzzAgain(f *testing.F) {
	for _, pair := range [][2]string{
		{`{"op":"publish","queue":"q","id":7,"body":"a"}`, `{"op":"publish","queue":"q","id":8,"body":[1,2]}`},
		{`{"op":"publish","queue":"q","body":"a"}`, `{"op":"publish","queue":"q","body":"b","key":"k"}`},
		{`{"op":"publish","id":7,"topic":"a.b","quiet":true,"body":{}}`, `{"op":"publish","id":07,"topic":"a.b","quiet":true,"body":{}}`},
		{`{"op":"publish","queue":"a7","id":-7,"create":false,"body":1}`, `{"op":"publish","queue":"a7","id":-8.5,"create":false,"body":1 }`},
		{`{"op":"publish","queue":"q","body":"a"}`, `{"op":"publish","queue":"q","body":"b"`},
		{`{"op":"publish","queue":"q","body":"a"}`, `{"op":"publish","queue":"q","body":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`},
		{`{"op":"publish","queue":"q","body":"a"}`, `{"op":"publish","queue":"q","body":"` + strings.Repeat("a", 100) + `"}`},
		{`{"op":"publish","queue":"q","body":"a"}`, "{\"op\":\"publish\",\"queue\":\"q\",\"body\":\"\xff\"}"},
		{`{"op":"publish","queue":"q","body":"a"}`, `{"op":"ping"}`},
		{`{"op":"publish","queue":"q1","id":7,"body":"a"}`, `{"op":"publish","queue":"q10","id":8,"body":"b"}`},
		{`{"op":"publish","queue":"q","body":"a"}`, `{"op":"publish","queue":".c1.s1","body":"b"}`},
		{`{"op":"publish","body":"a","quiet":true,"topic":"a.b"}`, `{"op":"publish","body":"b","quiet":true,"topic":"a..b"}`},
		{`{"op":"publish","body":"a","queue":"q"}`, `{"op":"ack","queue":"q","seq":[1,2],"receipt":["a","b"]}`},
		{`{"op":"ack","queue":"q","seq":[1],"receipt":["a"]}`, `{"op":"ack","queue":"p","seq":[1,2],"receipt":["a"]}`},
		{`{"op":"ack","queue":"q","seq":[1],"receipt":["a"]}`, `{"op":"ack","queue":".c1.s1","seq":2,"receipt":"b\u0061"}`},
		{`{"op":"ack","id":1,"queue":"q","seq":1,"quiet":true}`, `{"op":"ack","id":2,"queue":"q","seq":[],"quiet":true}`},
		{`{"op":"ack","queue":"q","seq":[1,2]}`, `{"op":"ack","queue":"q","seq":[1,-2]}`},
		{`{"op":"ack","queue":"a","seq":[1]}`, `{"op":"ack","queue":"b","seq":[1]}`},
		{`{"op":"publish","queue":"a","body":1}`, `{"op":"publish","queue":"b","body":1}`},
		{`{"op":"publish","queue":"a","encoding":"base64","body":"YQ=="}`, `{"op":"publish","queue":"a","encoding":"base64","body":"Y-=="}`},
		{`{"op":"publish","queue":"a","body":"YWI/","encoding":"base64"}`, `{"op":"publish","queue":"b","body":"YWI\/","encoding":"base64"}`},
		{`{"op":"publish","queue":"a","body":"YWI/","encoding":"base64"}`, `{"op":"publish","queue":"a","body":[1],"encoding":"base64"}`},
		{`{"op":"publish","queue":"a","encoding":"base64","messages":[{"encoding":"base64","body":"YQ=="}],"body":"-"}`, `{"op":"publish","queue":"a","messages":[{"encoding":"base64","body":"YQ=="},{"body":"-","encoding":"base64"}]}`},
	} {
		f.Add([]byte(pair[0]), []byte(pair[1]))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d, again, fresh := NewDecoder(64), Request{}, Request{}
		publish, ack := []byte(`{"op":"publish","queue":"x","body":1}`), []byte(`{"op":"ack","queue":"x","seq":[1]}`)
		for _, line := range [][]byte{first, second, second, publish, first, ack, second, first, first, publish, second, first, first, ack, second, first} {
			err, want := d.Decode(slices.Clone(line), &again), NewDecoder(64).Decode(line, &fresh)
			if (err == nil) != (want == nil) || err != nil && err.Error() != want.Error() {
				t.Fatalf("%s\nof %s and %s\nis %v, by itself %v", line, first, second, err, want)
			}
			if err == nil && !reflect.DeepEqual(normal(again), normal(fresh)) {
				t.Fatalf("%s\nof %s and %s\nis %+v\nby itself %+v", line, first, second, again, fresh)
			}
		}
	})
}

// normal tells empty slices of a request from nil no more: what is kept for the next line makes the difference.
func normal(r Request) Request {
	r.Messages, r.Seqs, r.Receipts = slices.Clone(r.Messages), slices.Clone(r.Seqs), slices.Clone(r.Receipts)
	if len(r.Messages) == 0 {
		r.Messages = nil
	}
	if len(r.Seqs) == 0 {
		r.Seqs = nil
	}
	if len(r.Receipts) == 0 {
		r.Receipts = nil
	}
	return r
}
