package sim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
)

// A Checker holds what clients have seen against what was promised to them. doc.go says what that is.
type Checker struct {
	w        *World
	books    map[string]*queueBook
	messages []*message // by number
	groups   []*group
	delayed  []*chain // in queue later, not delivered yet
	lenient  bool     // the disk has lied: what was confirmed may be gone, but nothing else may be wrong
	over     bool     // no process is to be started any more
}

func (k *Checker) newMessage(l *life) *message {
	m := &message{number: len(k.messages), called: k.w.steps, life: l}
	k.messages = append(k.messages, m)
	return m
}

func (k *Checker) addChain(m *message, q *queueBook) {
	m.chains = append(m.chains, &chain{m: m, q: q, at: q.name})
}

func (k *Checker) addGroup(g *group) { k.groups = append(k.groups, g) }

// jumped is told that a clock has moved: what is on its way may bear a time that is earlier than was thought.
func (k *Checker) jumped(n *Node) {
	if n.life == nil {
		return
	}
	now := n.time()
	for _, c := range n.life.conns {
		for _, r := range c.asked {
			r.wall = min(r.wall, now)
			for _, m := range r.messages {
				if m.delay > 0 {
					m.due = min(m.due, now+int64(m.delay))
				}
			}
			if r.op == "extend" {
				r.list[0].leaseEnd = min(r.list[0].leaseEnd, now)
			}
			if r.chain != nil && r.delay > 0 {
				r.chain.m.due = min(r.chain.m.due, now+int64(r.delay))
			}
		}
	}
}

// A reply is a line from the broker: an answer, or something it says unasked.
type reply struct {
	item
	ID        *int     `json:"id"`
	OK        bool     `json:"ok"`
	Op        string   `json:"op"`
	Sub       uint64   `json:"sub"`
	Seqs      []uint64 `json:"seqs"`
	Duplicate bool     `json:"duplicate"`
	Stored    string   `json:"stored"`
	Settled   *int     `json:"settled"`
	Until     string   `json:"until"`
	Messages  []item   `json:"messages"`
	Error     *struct {
		Code string   `json:"code"`
		Seqs []uint64 `json:"seqs"`
	} `json:"error"`
	Counts map[string]int64 `json:"counts"`
}

// An item is a delivery as it stands in a line.
type item struct {
	Queue       string          `json:"queue"`
	Seq         uint64          `json:"seq"`
	Attempt     int             `json:"attempt"`
	Receipt     string          `json:"receipt"`
	Redelivered bool            `json:"redelivered"`
	Headers     json.RawMessage `json:"headers"`
	Key         string          `json:"key"`
	Topic       string          `json:"topic"`
	Encoding    string          `json:"encoding"`
	Body        json.RawMessage `json:"body"`
	State       string          `json:"state"`
}

// got enters a line that left the process between step lo and now.
func (k *conn) got(line []byte, lo moment) {
	w := k.c.w
	w.note(k.c.name, "< %s", line)
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		w.wrong("%s was sent what is no JSON: %v", k.c.name, err)
		return
	}
	if k.life.failed != 0 && lo.step > k.life.failed && (r.OK || r.Op != "") {
		w.wrong("said after the process had failed: %s", line)
		return
	}
	switch {
	case r.Op == "message":
		s := k.subs[r.Sub]
		if s == nil {
			w.wrong("a delivery to subscription %d, which nobody has", r.Sub)
			return
		}
		w.check.delivered(k, s, &r.item, s.auto, lo)
	case r.Op == "unsubscribed":
		if s := k.subs[r.Sub]; s != nil {
			s.ended = true
		}
	case r.ID != nil && k.quiet[*r.ID] && r.Error != nil:
		w.stats.refusedWith(r.Error.Code)
	case r.ID == nil || k.asked[*r.ID] == nil:
		w.wrong("an answer to what nobody asked: %s", line)
	default:
		q := k.asked[*r.ID]
		delete(k.asked, *r.ID)
		w.stats.Replies++
		if r.Error != nil {
			w.stats.refusedWith(r.Error.Code)
		}
		w.check.answered(k, q, &r, lo)
		if q.then != nil {
			q.then()
		}
	}
}

// died is told that a process is no more, and with it all that was in memory.
func (k *Checker) died() {
	for _, q := range k.books {
		if !q.kept {
			q.seqs, q.first, q.highest, q.redriven = map[uint64]*chain{}, [10]front{}, 0, false
		}
	}
}

// lost is told that a connection is no more: what was asked on it may or may not have been done.
func (k *Checker) lost(c *conn) {
	for _, r := range c.asked {
		for _, m := range r.messages {
			if m.status == open {
				m.status = unknown
			}
		}
		if r.op == "ack" {
			for _, d := range r.list {
				d.chain.unsure()
			}
		}
		if r.op == "queue.cancel" {
			r.chain.unsure()
		}
	}
}

// unsure is the end of an ack of which nobody knows whether it was carried out.
func (c *chain) unsure() {
	if c != nil {
		c.asked--
		c.maybe = true
	}
}

// source is the queue whose messages those of the queue are: its own, or of a dead-letter queue those that died.
func source(name string) string { return strings.TrimSuffix(name, ".dlq") }

// numberOf is the number of the message with that body; false where it is none of ours.
func numberOf(it *item) (int, bool) {
	text := []byte(it.Body)
	if it.Encoding == "base64" {
		raw, err := base64.StdEncoding.DecodeString(strings.Trim(string(it.Body), `"`))
		if err != nil {
			return 0, false
		}
		text = raw
	}
	from := bytes.IndexAny(text, "0123456789")
	if from < 0 {
		return 0, false
	}
	to := from
	for to < len(text) && text[to] >= '0' && text[to] <= '9' {
		to++
	}
	n, err := strconv.Atoi(string(text[from:to]))
	return n, err == nil
}

// verbatim finds the message of an item, and checks that it is what was sent.
func (k *Checker) verbatim(it *item) *message {
	n, ok := numberOf(it)
	if !ok || n >= len(k.messages) {
		k.w.wrong("queue %s, message %d: nobody sent the body %.100s", it.Queue, it.Seq, it.Body)
		return nil
	}
	m := k.messages[n]
	dead := strings.HasSuffix(it.Queue, ".dlq")
	switch {
	case string(it.Body) != m.body || it.Encoding != m.encoding:
		k.w.wrong("queue %s, message %d: the body %.100s is not the one that was sent, %.100s", it.Queue, it.Seq, it.Body, m.body)
	case !dead && string(it.Headers) != m.headers, dead && !strings.HasPrefix(compact(it.Headers), strings.TrimSuffix(compact([]byte(m.headers)), "}")):
		k.w.wrong("queue %s, message %d: the headers %s are not those that were sent, %s", it.Queue, it.Seq, it.Headers, m.headers)
	case it.Key != m.key || it.Topic != m.topic:
		k.w.wrong("queue %s, message %d: key %q, topic %q; %q and %q were sent", it.Queue, it.Seq, it.Key, it.Topic, m.key, m.topic)
	case m.status == refused:
		k.w.wrong("queue %s, message %d: it was refused when it was sent, and is there: %.100s", it.Queue, it.Seq, it.Body)
	}
	return m
}

// chain is a message's in a queue; nil where it must not be checked further.
func (k *Checker) chain(m *message, queue string) *chain {
	q := k.books[source(queue)]
	if q != nil && q.gone {
		return nil
	}
	for _, c := range m.chains {
		if c.q == q {
			return c
		}
	}
	if q == nil || m.topic != "" && q.name == "flap" {
		return nil // of a subscription to a topic, or a queue that is bound now and then
	}
	k.w.wrong("queue %s has a message that was not sent to it: %.100s", queue, m.body)
	return nil
}

// compact is JSON without the white space between its tokens: a dead letter's headers are written anew.
func compact(text []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return string(text)
	}
	return b.String()
}
