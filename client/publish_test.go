package gmq

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/wire"
)

// encoded is what a publish of body looks like behind its id.
func encoded(t *testing.T, body any, opts ...PublishOption) (string, error) {
	t.Helper()
	e := &encoder{}
	q := (&Client{}).Queue("q")
	if err := e.publish(q.head, body, opts); err != nil {
		return "", err
	}
	line := string(appendLine(nil, 1, e.buf))
	if !strings.HasSuffix(line, "}\n") || strings.Count(line, "\n") != 1 || !json.Valid([]byte(line)) {
		t.Errorf("no line: %q", line)
	}
	var r wire.Request
	if err := wire.NewDecoder(1<<20).Decode([]byte(strings.TrimSpace(line)), &r); err != nil {
		t.Errorf("the server would not take %s: %v", line, err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(line, `{"id":1,"op":"publish","queue":"q",`), "}\n"), nil
}

func TestBodies(t *testing.T) {
	tests := []struct {
		body any
		want string
	}{
		{nil, `"body":null`},
		{"a \"b\"\n\u2028<é", `"body":"a \"b\"\n` + "\u2028" + `<é"`},
		{[]byte{0xff, 0}, `"encoding":"base64","body":"/wA="`},
		{[]byte(nil), `"encoding":"base64","body":""`},
		{json.RawMessage("{\n \"a\": 1.0,\r\n\"a\":2}"), `"body":{  "a": 1.0,  "a":2}`},
		{struct {
			A int `json:"a"`
			B json.RawMessage
		}{1, json.RawMessage("[1,\n2]")}, `"body":{"a":1,"B":[1,2]}`},
		{map[string]string{"x": "<>"}, `"body":{"x":"<>"}`},
		{42, `"body":42`},
	}
	for _, test := range tests {
		if got, err := encoded(t, test.body); err != nil || got != test.want {
			t.Errorf("%T: %s, want %s (%v)", test.body, got, test.want, err)
		}
	}
}

func TestBodiesThatAreNone(t *testing.T) {
	for _, body := range []any{
		json.RawMessage(`1,"queue":"other"`), json.RawMessage(nil), json.RawMessage("1}\n{"), "\xff", make(chan int),
	} {
		if got, err := encoded(t, body); err == nil {
			t.Errorf("%T %q was taken: %s", body, body, got)
		}
	}
}

func TestPublishOptions(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600))
	got, err := encoded(t, 1, Headers(map[string]string{"b": "2", "a": "\"1"}), Key("k"), DedupID("d"),
		RequireStored("disk"), Priority(0), Delay(90*time.Second), TTL(time.Hour), Retry())
	want := `"headers":{"a":"\"1","b":"2"},"key":"k","dedup_id":"d","stored":"disk","priority":0,"delay":"1m30s","ttl":"1h0m0s","body":1`
	if err != nil || got != want {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
	if got, err = encoded(t, 1, At(at)); err != nil || got != `"at":"2030-01-02T02:04:05.0000006Z","body":1` {
		t.Errorf("got %s (%v)", got, err)
	}
}

func TestSendBatch(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		sent := going(func() ([]uint64, error) {
			return c.Queue("q").SendBatch(t.Context(), []Msg{{Body: 1}, {Body: []byte("x"), Options: []PublishOption{Key("b")}}}, Key("a"))
		})
		r := s.expect("publish")
		if !strings.Contains(r.raw, `"messages":[{"key":"a","body":1},{"key":"b","encoding":"base64","body":"eA=="}]}`) {
			t.Errorf("batch: %s", r.raw)
		}
		s.ok(r, `"seqs":[4,5],"stored":"disk"`)
		if got := <-sent; got.err != nil || len(got.v) != 2 || got.v[1] != 5 {
			t.Fatalf("%+v", got)
		}
	})
}

func TestMessageBodies(t *testing.T) {
	q := (&Client{}).Queue("q")
	in := wire.Inbound{Seq: 3, Attempt: 1, Body: []byte(`"aGk="`), Base64: true, Headers: []byte(`{"a":"b"}`), Receipt: []byte("r")}
	m := newMessage(q, &in, 1, false)
	if b, err := m.Bytes(); err != nil || string(b) != "hi" || m.Text() != "hi" || m.Headers["a"] != "b" {
		t.Errorf("%q, %v, %v", b, err, m.Headers)
	}
	m = newMessage(q, &wire.Inbound{Body: []byte(`"a\nb"`)}, 1, false)
	var s string
	if err := m.Decode(&s); err != nil || s != "a\nb" || m.Text() != s {
		t.Errorf("%q, %v", s, err)
	}
	m = newMessage(q, &wire.Inbound{Body: []byte(`{"a":1}`)}, 1, false)
	if b, err := m.Bytes(); err != nil || string(b) != `{"a":1}` || m.Text() != `{"a":1}` {
		t.Errorf("%q, %v", b, err)
	}
}

func TestRingPassesOverTakenSlots(t *testing.T) {
	var r ring
	held := &call{}
	r.add(held)
	seen := map[uint64]bool{held.id: true}
	for range 1000 {
		c := &call{}
		r.add(c)
		if seen[c.id] || r.get(c.id) != c || !r.remove(c) || r.remove(c) {
			t.Fatalf("id %d", c.id)
		}
		seen[c.id] = true
	}
	if r.n != 1 || r.get(held.id) != held || len(r.slots) != 64 {
		t.Fatalf("%d held in %d slots", r.n, len(r.slots))
	}
	for range 500 {
		r.add(&call{})
	}
	all := r.ordered()
	if len(all) != 501 || all[0] != held || r.get(held.id) != held {
		t.Fatalf("%d held", len(all))
	}
}

func TestClip(t *testing.T) {
	if got := clip("aéé", 4); got != "aé" {
		t.Errorf("got %q", got)
	}
}
