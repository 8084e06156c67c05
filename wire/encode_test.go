package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Rule 7: the replies, to the letter.
func TestReplies(t *testing.T) {
	id := []byte(`7`)
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{AppendOK(nil, id), `{"id":7,"ok":true`},
		{AppendOK(nil, nil), `{"ok":true`},
		{AppendDone(nil, []byte(`"a"`)), `{"id":"a","ok":true}` + "\n"},
		{AppendPublished(nil, id, 42, "disk", false), `{"id":7,"ok":true,"seq":42,"stored":"disk"}` + "\n"},
		{AppendPublished(nil, nil, 42, "memory", true), `{"ok":true,"seq":42,"stored":"memory","duplicate":true}` + "\n"},
		{AppendError(nil, id, &Error{Code: CodeQueueFull, Message: `queue "a" holds 5`}), `{"id":7,"ok":false,"error":{"code":"queue_full","message":"queue \"a\" holds 5","retryable":true}}` + "\n"},
		{AppendError(nil, nil, &Error{Code: CodeLeaseLost, Message: "x\xff\n", Seqs: []uint64{1, 2}}), `{"ok":false,"error":{"code":"lease_lost","message":"x` + "\uFFFD" + `\n","retryable":false,"seqs":[1,2]}}` + "\n"},
		{AppendSeqs(nil, nil), `[]`},
	} {
		if string(c.got) != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}

func TestAppendTime(t *testing.T) {
	const layout = `"2006-01-02T15:04:05.000000Z"`
	ns := []int64{0, 1, -1, 999, 1000, 1e9, -1e9, math.MaxInt64, math.MinInt64, 951782400e9, 951868799999999999, 4107542400e9, -2208988800e9}
	for d := int64(-100000); d < 100000; d += 1 { // every day from 1696 to 2243
		ns = append(ns, d*86400e9+d*1e7)
	}
	for range 100000 {
		ns = append(ns, int64(rand.Uint64()))
	}
	for _, n := range ns {
		if got, want := string(AppendTime(nil, n)), time.Unix(0, n).UTC().Format(layout); got != want {
			t.Fatalf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestAppendDuration(t *testing.T) {
	ds := []time.Duration{0, 1, 999, 1000, 1001, 1100, 999999, 1e6, 1500 * time.Microsecond, 1e9, 59 * time.Second, time.Minute, time.Hour, 90 * time.Minute, time.Hour + time.Nanosecond, math.MaxInt64, math.MinInt64, -1, -time.Second}
	for range 100000 {
		ds = append(ds, time.Duration(rand.Uint64()>>rand.UintN(64)))
	}
	for _, d := range ds {
		got := string(AppendDuration(nil, d))
		if got != `"`+d.String()+`"` {
			t.Fatalf("%s, want %s", got, d)
		}
		if back, ok := parseDuration([]byte(strings.Trim(got, `"`))); !ok || back != d {
			t.Fatalf("%s was read as %v", got, back)
		}
	}
}

// The order of a delivery's fields, and that what is absent is left out.
func TestAppendDelivery(t *testing.T) {
	m := &Delivery{Queue: "orders", Seq: 42, Attempt: 1, Published: 1e9, Body: []byte(`{"a": 1}`)}
	if got := string(AppendDelivery(nil, m)); got != `{"queue":"orders","seq":42,"attempt":1,"published":"1970-01-01T00:00:01.000000Z","body":{"a": 1}}` {
		t.Error(got)
	}
	m = &Delivery{Pushed: true, Sub: 1, Queue: "orders", Seq: 42, Attempt: 2, Receipt: []byte("r"), Published: 1e9, Redelivered: true, Headers: []byte(`{"a":"b"}`), Key: []byte(`k"`), Topic: []byte("t"), Base64: true, Body: []byte(`"YQ=="`)}
	if got := string(AppendDelivery(nil, m)); got != `{"op":"message","sub":1,"queue":"orders","seq":42,"attempt":2,"receipt":"r","published":"1970-01-01T00:00:01.000000Z","redelivered":true,"headers":{"a":"b"},"key":"k\"","topic":"t","encoding":"base64","body":"YQ=="}` {
		t.Error(got)
	}
}

// A dead message keeps its headers and gains four, each once.
func TestDeadHeaders(t *testing.T) {
	dead := &DeadInfo{Queue: "orders", Seq: 42, Attempts: 10, Reason: []byte("a \"b\"\n\xff")}
	ours := `"gmq-dead-queue":"orders","gmq-dead-seq":"42","gmq-dead-attempts":"10","gmq-dead-reason":"a \"b\"\n` + "\uFFFD" + `"}`
	for in, want := range map[string]string{
		``:                                   `{` + ours,
		`{"a":"b"}`:                          `{"a":"b",` + ours,
		"{ \"a\" : \"b\" ,\t\"c\":\"d\" }":   `{"a":"b","c":"d",` + ours,
		`{"gmq-dead-seq":"1"}`:               `{` + ours,
		`{"\u0067mq-dead-seq":"1","a":"b"}`:  `{"a":"b",` + ours,
		`{"a":"b","gmq-dead-reason":"\"},"}`: `{"a":"b",` + ours,
		`{"gmq-dead-seqs":"1"}`:              `{"gmq-dead-seqs":"1",` + ours,
		`{"gmq-dead-queue":"1","gmq-dead-seq":"1","x\n":"\\","gmq-dead-attempts":"1","gmq-dead-reason":"1"}`: `{"x\n":"\\",` + ours,
	} {
		if got := string(AppendDeadHeaders(nil, []byte(in), dead)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", in, got, want)
		}
	}
	m := &Delivery{Queue: "orders.dlq", Body: []byte("1"), Headers: []byte(`{"a":"b"}`), Dead: dead}
	if got := AppendDelivery(nil, m); !json.Valid(got) || !strings.Contains(string(got), `"headers":{"a":"b","gmq-dead-queue":"orders"`) {
		t.Errorf("%s", got)
	}
}

var frames = []string{
	`{"id":7,"ok":true,"seq":42,"stored":"disk","duplicate":true}`, `{"id":"a","ok":true,"seqs":[1,2,3],"stored":"memory"}`, `{"ok":true,"settled":3}`, `{"ok":true,"queues":3,"stored":"new_level"}`,
	`{"id":7,"ok":false,"error":{"code":"lease_lost","message":"a \"b\"","retryable":true,"seqs":[4,5],"new":{}}}`, `{"ok":false}`,
	`{"op":"unsubscribed","sub":3,"reason":"gone"}`, `{"op":"closing","reason":"bye"}`, `{"op":"message","sub":1,"queue":"q","seq":2,"body":{}}`,
	`{"ok":true,"messages":[{"queue":"q","seq":1,"body":1,"later":[{}]},{"queue":"q","seq":2,"body":"x"}],"later":{"a":[1]}}`, `{"ok":true,"queues":[{"queue":"a"}],"seq":"x","seqs":{},"messages":4,"sub":null,"error":3}`,
	`{"ok":true,"messages":[1,null]}`, ` { } `, `{"id":null}`, `[]`, ``, `{"ok":true}x`, `{"ok":tru}`, `{"seqs":[1,]}`, `{"messages":[{]}`,
}

func TestDecodeFrame(t *testing.T) {
	for line, want := range map[string]string{
		frames[0]:  `id=7 reply=true ok=true seq=42 seqs=[] stored=disk dup=true settled=0 queues=0 sub=0 n=0 err=<nil> retry=false reason=`,
		frames[1]:  `id="a" reply=true ok=true seq=0 seqs=[1 2 3] stored=memory dup=false settled=0 queues=0 sub=0 n=0 err=<nil> retry=false reason=`,
		frames[2]:  `id= reply=true ok=true seq=0 seqs=[] stored= dup=false settled=3 queues=0 sub=0 n=0 err=<nil> retry=false reason=`,
		frames[3]:  `id= reply=true ok=true seq=0 seqs=[] stored=new_level dup=false settled=0 queues=3 sub=0 n=0 err=<nil> retry=false reason=`,
		frames[4]:  `id=7 reply=true ok=false seq=0 seqs=[] stored= dup=false settled=0 queues=0 sub=0 n=0 err=lease_lost: a "b" retry=true reason=`,
		frames[6]:  `id= reply=false ok=false seq=0 seqs=[] stored= dup=false settled=0 queues=0 sub=3 n=0 err=<nil> retry=false reason=gone`,
		frames[9]:  `id= reply=true ok=true seq=0 seqs=[] stored= dup=false settled=0 queues=0 sub=0 n=2 err=<nil> retry=false reason=`,
		frames[10]: `id= reply=true ok=true seq=0 seqs=[] stored= dup=false settled=0 queues=0 sub=0 n=0 err=<nil> retry=false reason=`,
	} {
		f := &Frame{Seqs: []uint64{9}, Messages: make([]Inbound, 2)}
		if err := DecodeFrame([]byte(line), f); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		var e error
		if f.Err != nil {
			e = f.Err
		}
		got := fmt.Sprintf("id=%s reply=%v ok=%v seq=%d seqs=%v stored=%s dup=%v settled=%d queues=%d sub=%d n=%d err=%v retry=%v reason=%s", f.ID, f.IsReply, f.OK, f.Seq, f.Seqs, f.Stored, f.Duplicate, f.Settled, f.Queues, f.Sub, len(f.Messages), e, f.Retryable, f.Reason)
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", line, got, want)
		}
		if string(f.Raw) != line {
			t.Errorf("raw is %s", f.Raw)
		}
	}
	for _, line := range []string{``, `[]`, `{"ok":true}x`, `{"ok":tru}`, `{"seqs":[1,]}`, `{"seqs":[`, `{"messages":[`, `{"messages":[{]}`, `{"a"`, `{"error":{"code":"x"`} {
		if err := DecodeFrame([]byte(line), &Frame{}); err == nil {
			t.Errorf("%s passed", line)
		}
	}
	f := &Frame{}
	if err := DecodeFrame([]byte(frames[4]), f); err != nil || fmt.Sprint(f.Err.Seqs) != "[4 5]" {
		t.Error(err, f.Err)
	}
}

// A delivery that the server writes is what the client reads.
func TestDeliveryRoundTrip(t *testing.T) {
	f := &Frame{}
	for pick := range 512 {
		bit := func(n int, s string) []byte {
			if pick>>n&1 == 0 {
				return nil
			}
			return []byte(s)
		}
		m := &Delivery{
			Queue: "orders", Seq: 42, Attempt: 3, Published: 1767323045123456000, Body: []byte(`"Y\/Q="`), Pushed: pick&1 != 0, Receipt: bit(1, "r\"1"), Redelivered: pick&4 != 0,
			Headers: bit(3, `{"a":"b"}`), Key: bit(4, "k\x00é\U0001F600"), Topic: bit(5, "a.b"), Base64: pick&64 != 0,
		}
		if pick&128 != 0 {
			m.Dead = &DeadInfo{Queue: "q", Seq: 1, Attempts: 2, Reason: bit(8, "why")}
		}
		if m.Pushed {
			m.Sub = 9
		}
		line := AppendDelivery(nil, m)
		if !json.Valid(line) || strings.ContainsAny(string(line), " \n") {
			t.Fatalf("%s", line)
		}
		if !m.Pushed {
			line = append(append([]byte(`{"id":1,"ok":true,"messages":[`), line...), "]}"...)
		}
		if err := DecodeFrame(line, f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got := f.Message
		if !m.Pushed {
			got = f.Messages[0]
		} else if f.Op != "message" || f.IsReply {
			t.Fatalf("%s: op %q", line, f.Op)
		}
		if got.Sub != m.Sub || string(got.Queue) != m.Queue || got.Seq != m.Seq || got.Attempt != m.Attempt || string(got.Receipt) != string(m.Receipt) || got.Published.UnixNano() != m.Published ||
			got.Redelivered != m.Redelivered || string(got.Key) != string(m.Key) || string(got.Topic) != string(m.Topic) || got.Base64 != m.Base64 || string(got.Body) != string(m.Body) {
			t.Fatalf("%s: %+v", line, got)
		}
		if m.Dead == nil && string(got.Headers) != string(m.Headers) || m.Dead != nil && !json.Valid(got.Headers) {
			t.Fatalf("%s: headers %s", line, got.Headers)
		}
	}
}
