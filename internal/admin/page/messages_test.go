package page

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestHolds(t *testing.T) {
	const message = `{"queue":"q","seq":17,"key":"Customer-9","topic":"files.eu.added","headers":{"trace":"7F3a"},"body":{"item": "Straße", "n": 12.50}}`
	for text, want := range map[string]bool{
		"17": true, "customer-9": true, "EU.ADDED": true, "trace": true, "7f3A": true, "item": true, "straße": true, "12.50": true, "12.5": true, "99": false, "nothing": false,
	} {
		if holds([]byte(message), text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
	if m := []byte(`{"seq":1,"encoding":"base64","body":"SGVsbG8="}`); !holds(m, "hello") || holds(m, "world") {
		t.Error("what is base64 is not searched")
	}
	if m := []byte(`{"seq":1,"body":"a \"quoted\" word"}`); !holds(m, `"quoted"`) {
		t.Error("a string is not searched as what it says")
	}
}

func TestBodiesStayAsTheyAre(t *testing.T) {
	for body, want := range map[string]string{
		`{"n": 12345678901234567890.10, "n": 2}`: `{"n": 12345678901234567890.10, "n": 2}`,
		`"text"`:                                 "",
		`[1.0]`:                                  "[1.0]",
	} {
		out := withText([]byte(`{"seq":1,"body":` + body + `}`))
		var is struct {
			Seq  int
			Text string `json:"body_text"`
		}
		if err := json.Unmarshal(out, &is); err != nil || is.Text != want || is.Seq != 1 {
			t.Errorf("%s: %v %s", body, err, out)
		}
	}
}

// A queue of n messages, of which a peek gives a hundred at most.
func aQueue(n int) func(line string) string {
	return func(line string) string {
		var r struct {
			After uint64
			Limit int
		}
		_ = json.Unmarshal([]byte(line), &r)
		var all []string
		for seq := r.After + 1; seq <= uint64(n) && len(all) < min(r.Limit, 100); seq++ {
			all = append(all, fmt.Sprintf(`{"seq":%d,"body":{"item":%d}}`, seq, seq))
		}
		return `{"ok":true,"messages":[` + strings.Join(all, ",") + `]}`
	}
}

func TestSearch(t *testing.T) {
	f := &fake{reply: aQueue(2500)}
	p := serve(f)
	is := get[messageList](t, p, "/api/queues/q/messages?search=999")
	if len(is.Messages) != 2 || is.LookedAt != 2500 || is.Next != 0 || seqOf(is.Messages[1]) != 1999 {
		t.Errorf("%d hits among %d, next %d", len(is.Messages), is.LookedAt, is.Next)
	}
	is = get[messageList](t, p, "/api/queues/q/messages?search=1&limit=5")
	if len(is.Messages) != 5 || is.Next != seqOf(is.Messages[4]) {
		t.Errorf("a page: %d hits, next %d", len(is.Messages), is.Next)
	}
	f.reply = aQueue(1_000_000) // it stops somewhere, and says where
	f.asked = nil
	if is = get[messageList](t, p, "/api/queues/q/messages?search=nothing"); is.Next == 0 || is.LookedAt > searchMessages+1000 || len(f.asked) > searchAsks {
		t.Errorf("it looked at %d in %d requests, next %d", is.LookedAt, len(f.asked), is.Next)
	}
}

func TestPagesOfMessages(t *testing.T) {
	p := serve(&fake{reply: aQueue(30)})
	is := get[messageList](t, p, "/api/queues/q/messages?limit=25")
	if len(is.Messages) != 25 || is.Next != 25 {
		t.Errorf("%d, next %d", len(is.Messages), is.Next)
	}
	if is = get[messageList](t, p, "/api/queues/q/messages?limit=25&after=25"); len(is.Messages) != 5 || is.Next != 0 {
		t.Errorf("the end: %d, next %d", len(is.Messages), is.Next)
	}
	for _, query := range []string{"after=x", "after=-1", "limit=201"} {
		if resp, body := call(p, "GET", "/api/queues/q/messages?"+query, ""); resp.StatusCode != 400 {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body)
		}
	}
}
