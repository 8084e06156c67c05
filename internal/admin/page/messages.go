package page

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/gmq/gmq/wire"
)

const (
	mostMessages = 200     // of an answer
	mostBytes    = 1 << 20 // of an answer; one message may be larger
	// A search looks at so many messages and asks so often, at most; then whoever searches goes on himself.
	searchMessages = 20_000
	searchAsks     = 40
)

// messageList are messages of a queue as queue.peek shows them, with body_text besides where a body is no string.
type messageList struct {
	Messages []json.RawMessage `json:"messages"`
	LookedAt int               `json:"looked_at"`
	Next     uint64            `json:"next,omitempty"` // after, for what comes behind; not there at the end
}

// messages shows the messages of a queue, all or those that hold a text.
func (p *Page) messages(w http.ResponseWriter, r *http.Request, v Visitor) {
	query := r.URL.Query()
	limit, err := number(r, "limit", 50, 1, mostMessages)
	after, failed := strconv.ParseUint("0"+query.Get("after"), 10, 53)
	if err == nil && failed != nil {
		err = refusal("after must be the number of a message, not %.64q", query.Get("after"))
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	fields := map[string]any{"op": "queue.peek", "queue": r.PathValue("queue")}
	if state := query.Get("state"); state != "" {
		fields["state"] = state
	}
	text := query.Get("search")
	is := messageList{Messages: []json.RawMessage{}}
	size := 0
	for range searchAsks {
		fields["after"], fields["limit"] = after, limit-len(is.Messages)
		if text != "" {
			fields["limit"] = wire.MaxLimit
		}
		got, last, a := peek(r, v, fields)
		if a.err != nil {
			relay(w, a)
			return
		}
		full := is.take(got, text, limit)
		if len(got) == 0 {
			is.Next = 0
			break
		}
		after = last
		if !full {
			is.Next = after
		}
		if size += len(a.raw); full || is.LookedAt >= searchMessages || text == "" && size >= mostBytes {
			break
		}
	}
	send(w, http.StatusOK, is)
}

// peek asks for messages; last is the number of the last of them.
func peek(r *http.Request, v Visitor, fields map[string]any) (got []json.RawMessage, last uint64, a answer) {
	if a = askFor(r, v, fields); a.err != nil {
		return nil, 0, a
	}
	var is struct{ Messages []json.RawMessage }
	if err := json.Unmarshal(a.raw, &is); err != nil {
		a.err = wire.Errorf(wire.CodeInternal, "%v", err)
		return nil, 0, a
	}
	if n := len(is.Messages); n > 0 {
		last = seqOf(is.Messages[n-1])
	}
	return is.Messages, last, a
}

func seqOf(message json.RawMessage) uint64 {
	var m struct{ Seq uint64 }
	_ = json.Unmarshal(message, &m) // what the server has written
	return m.Seq
}

// withText adds the body as a text, body_text: who reads JSON in a browser would see 12.50 as 12.5 and round long numbers.
func withText(message json.RawMessage) json.RawMessage {
	var m struct{ Body json.RawMessage }
	if err := json.Unmarshal(message, &m); err != nil || len(message) == 0 {
		return message
	}
	if len(m.Body) > 0 && m.Body[0] == '"' { // a string says itself what it is
		return message
	}
	out := append(make([]byte, 0, len(message)+len(m.Body)+16), message[:len(message)-1]...)
	return append(wire.AppendString(append(out, `,"body_text":`...), string(m.Body)), '}')
}

// take adds those that hold the text. It is true where there is no room for more; then Next is where to go on.
func (is *messageList) take(got []json.RawMessage, text string, limit int) bool {
	for _, m := range got {
		is.LookedAt++
		if text != "" && !holds(m, text) {
			continue
		}
		is.Messages = append(is.Messages, withText(m))
		if len(is.Messages) == limit {
			is.Next = seqOf(m)
			return true
		}
	}
	return false
}

// holds reports whether a text stands in a message, whatever the case: in its body, decoded where it is base64, its
// headers, its key or its topic, or is its number.
func holds(message json.RawMessage, text string) bool {
	var m struct {
		Seq        uint64
		Key, Topic string
		Encoding   string
		Headers    map[string]string
		Body       json.RawMessage
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return false
	}
	if strconv.FormatUint(m.Seq, 10) == text {
		return true
	}
	want := strings.ToLower(text)
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), want) }
	if in(m.Key) || in(m.Topic) || in(string(m.Body)) {
		return true
	}
	for name, value := range m.Headers {
		if in(name) || in(value) {
			return true
		}
	}
	var body string
	if json.Unmarshal(m.Body, &body) != nil {
		return false
	}
	if m.Encoding == "base64" {
		b, err := base64.StdEncoding.DecodeString(body)
		return err == nil && bytes.Contains(bytes.ToLower(b), []byte(want))
	}
	return in(body)
}

// message shows one message with why it is not being delivered, or what became of it.
func (p *Page) message(w http.ResponseWriter, r *http.Request, v Visitor) {
	seq, failed := strconv.ParseUint(r.PathValue("seq"), 10, 53)
	if failed != nil || seq == 0 {
		refuse(w, http.StatusBadRequest, refusal("%.64q is no number of a message", r.PathValue("seq")))
		return
	}
	name := r.PathValue("queue")
	explained := askFor(r, v, map[string]any{"op": "queue.explain", "queue": name, "seq": seq})
	if explained.err != nil {
		relay(w, explained)
		return
	}
	is := struct {
		Explain json.RawMessage `json:"explain"`           // the reply to queue.explain
		Message json.RawMessage `json:"message,omitempty"` // as queue.peek shows it; not there where it is no more
	}{Explain: explained.raw}
	got, last, _ := peek(r, v, map[string]any{"op": "queue.peek", "queue": name, "after": seq - 1, "limit": 1})
	if last == seq {
		is.Message = withText(got[0])
	}
	send(w, http.StatusOK, is)
}
