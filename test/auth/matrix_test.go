package auth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/wire"
)

// A role is a kind of user.
type role struct{ name, allow, deny string }

var roles = []role{
	{"nothing", "", ""},
	{"publisher", "publish:a.>", ""}, {"consumer", "consume:a.>", ""}, {"looker", "peek:a.>", ""}, {"manager", "manage:a.>", ""}, {"adminofa", "admin:a.>", ""},
	{"worker", "publish:a.> consume:a.>", ""}, {"ofone", "*:a.x", ""}, {"ofwords", "*:a.*", ""}, {"all", "*:>", ""}, {"admins", "admin:>", ""},
	{"butsecret", "*:>", "*:a.secret"}, {"butpublish", "*:>", "publish:>"}, {"butadmin", "*:>", "admin:>"}, {"butbs", "publish:> consume:> manage:> peek:>", "consume:b.* publish:b.*"},
	{"denied", "*:a.>", "*:>"}, {"dead", "manage:a.x.dlq publish:a.x", ""}, {"binder", "manage:a.x consume:a.* consume:b.x", ""},
}

// names are those that requests are about. No user but those who may do everything may touch the one that is untouched.
var names = []string{"a.x", "a.secret", "a.x.dlq", "b.x", "a", "other.y", "untouched"}

var topics = []string{"a.x", "a.*", "a.>", "b.*", "b.x", ">", "*", "*.x", "a.secret"}

// may is what a role may do, by the words of docs/protocol.md (R102, R103), and not by the server's code.
func (r *role) may(verb, name string) bool {
	grants := func(list string) (patterns []string) {
		for _, g := range strings.Fields(list) {
			v, pattern, _ := strings.Cut(g, ":")
			if v == verb || v == "*" {
				patterns = append(patterns, pattern)
			}
		}
		return patterns
	}
	for _, p := range grants(r.deny) {
		if !disjoint(strings.Split(p, "."), strings.Split(name, ".")) {
			return false
		}
	}
	return slices.ContainsFunc(grants(r.allow), func(p string) bool { return includes(strings.Split(p, "."), strings.Split(name, ".")) })
}

// disjoint: no name matches both patterns.
func disjoint(p, q []string) bool {
	switch {
	case len(p) == 0 || len(q) == 0:
		return len(p) != len(q)
	case p[0] == ">" && len(p) == 1 || q[0] == ">" && len(q) == 1:
		return false
	case p[0] != q[0] && p[0] != "*" && q[0] != "*":
		return true
	}
	return disjoint(p[1:], q[1:])
}

// includes: what matches q matches p.
func includes(p, q []string) bool {
	switch {
	case len(p) == 0 || len(q) == 0:
		return len(p) == len(q)
	case p[0] == ">" && len(p) == 1:
		return true
	case q[0] == ">" && len(q) == 1:
		return false
	case p[0] != "*" && p[0] != q[0]:
		return false
	}
	return includes(p[1:], q[1:])
}

// A cell is a request, and what it needs: one of the verbs of each need.
type cell struct {
	op, line string
	needs    []need
}

type need struct{ verbs, name string }

// cells are the requests of the matrix: every operation with every name in every field that takes one.
func cells() (all []cell) {
	add := func(op, line string, needs ...need) { all = append(all, cell{op, line, needs}) }
	for _, n := range names {
		one := func(verbs, op, more string) {
			add(op, fmt.Sprintf(`{"op":"%s","queue":"%s"%s}`, op, n, more), need{verbs, n})
		}
		one("publish", "publish", `,"body":1`)
		one("publish", "publish", `,"create":false,"messages":[{"body":1},{"body":2,"key":"k"}]`)
		one("consume", "receive", `,"create":false`)
		one("consume", "receive", `,"ack":"auto"`)
		one("consume", "subscribe", `,"create":false`)
		one("consume", "ack", `,"seq":1`)
		one("consume", "nack", `,"seq":1`)
		one("consume", "nack", `,"seq":[1,2],"dead":true`)
		one("consume", "extend", `,"seq":1,"lease":"1s"`)
		for _, op := range []string{"create", "update", "pause", "resume", "purge", "delete"} {
			one("manage", "queue."+op, "")
		}
		one("manage", "queue.purge", `,"state":"ready"`)
		one("manage", "queue.cancel", `,"seq":1`)
		one("manage", "queue.reschedule", `,"seq":1,"delay":"1h"`)
		one("consume peek manage", "queue.info", "")
		one("peek", "queue.peek", "")
		one("peek", "queue.explain", `,"seq":1`)
		for _, reply := range names {
			add("publish", fmt.Sprintf(`{"op":"publish","queue":"%s","messages":[{"body":1},{"body":1,"headers":{"x":"y","repl\u0079_to":"%s"}}]}`, n, reply), need{"publish", n}, need{"consume", reply})
		}
		add("cluster.leaders", fmt.Sprintf(`{"op":"cluster.leaders","queue":"%s"}`, n))
		source, isDead := strings.CutSuffix(n, ".dlq")
		needs := []need{{"manage", n}}
		if isDead {
			needs = append(needs, need{"publish", source})
		}
		add("queue.redrive", fmt.Sprintf(`{"op":"queue.redrive","queue":"%s"}`, n), needs...)
		for _, to := range names {
			add("queue.redrive", fmt.Sprintf(`{"op":"queue.redrive","queue":"%s","to":"%s"}`, n, to), need{"manage", n}, need{"publish", to})
		}
		for _, topic := range topics {
			add("queue.bind", fmt.Sprintf(`{"op":"queue.bind","queue":"%s","topic":"%s"}`, n, topic), need{"manage", n}, need{"consume", topic})
			add("queue.unbind", fmt.Sprintf(`{"op":"queue.unbind","queue":"%s","topic":"%s"}`, n, topic), need{"manage", n})
		}
	}
	for _, topic := range topics {
		add("subscribe", fmt.Sprintf(`{"op":"subscribe","topic":"%s"}`, topic), need{"consume", topic})
		if !strings.ContainsAny(topic, "*>") {
			add("publish", fmt.Sprintf(`{"op":"publish","topic":"%s","body":1}`, topic), need{"publish", topic})
			add("publish", fmt.Sprintf(`{"op":"publish","topic":"%s","messages":[{"body":1,"headers":{"reply_to":"b.x"}}]}`, topic), need{"publish", topic}, need{"consume", "b.x"})
		}
	}
	for op, more := range map[string]string{
		"user.add": `,"user":"x"`, "user.remove": `,"user":"x"`, "user.list": "", "user.password": `,"user":"x"`, "user.grant": `,"user":"x","allow":["*:>"]`,
		"token.add": `,"name":"x","allow":["*:>"]`, "token.remove": `,"name":"x"`, "token.list": "", "auth.check": `,"user":"admin","verb":"peek","name":"a"`,
		"cluster.token": "", "cluster.status": "", "cluster.remove": `,"name":"x"`, "cluster.transfer": "",
	} {
		add(op, fmt.Sprintf(`{"op":"%s"%s}`, op, more), need{"admin", ">"})
	}
	add("hello", `{"op":"hello"}`)
	add("ping", `{"op":"ping"}`)
	add("unsubscribe", `{"op":"unsubscribe","sub":99}`)
	add("queue.list", `{"op":"queue.list"}`)
	add("server.info", `{"op":"server.info"}`)
	add("cluster.leaders", `{"op":"cluster.leaders"}`)
	return all
}

// The matrix has every operation that there is, in every field of it that can name something: one that is new fails here.
func TestMatrixIsWhole(t *testing.T) {
	tried, fields := map[string]bool{}, map[string]bool{}
	for _, c := range cells() {
		tried[c.op] = true
		for _, f := range []string{"queue", "topic", "to"} {
			if strings.Contains(c.line, `"`+f+`":`) {
				fields[c.op+" "+f] = true
			}
		}
	}
	for op := wire.OpNone + 1; op.String() != "none"; op++ {
		if !tried[op.String()] {
			t.Errorf("the matrix does not try %s", op)
		}
		for f, name := range map[wire.Field]string{wire.FieldQueue: "queue", wire.FieldTopic: "topic", wire.FieldTo: "to"} {
			if wire.OpFields(op)&f != 0 && !fields[op.String()+" "+name] {
				t.Errorf("the matrix does not try the field %s of %s", name, op)
			}
		}
	}
}

func TestMatrix(t *testing.T) {
	s, admin := start(t, "")
	count, refused := 0, 0
	for i := range roles {
		r := &roles[i]
		c := add(t, s, admin, r.name, r.allow, r.deny)
		for _, cell := range cells() {
			want := true
			for _, n := range cell.needs {
				want = want && slices.ContainsFunc(strings.Fields(n.verbs), func(verb string) bool { return r.may(verb, n.name) })
			}
			if r.name == "all" && strings.Contains(cell.line, "untouched") {
				continue // so that nobody who may not has made it
			}
			l := c.Do("%s", cell.line)
			code := l.Code()
			switch count++; {
			case want && (code == "forbidden" || code == "unauthenticated"):
				t.Errorf("%s (%s, but %s) is refused %s: %s", r.name, r.allow, r.deny, cell.line, l.Raw)
			case !want && code != "forbidden":
				t.Errorf("%s (%s, but %s) is not refused %s: %s", r.name, r.allow, r.deny, cell.line, l.Raw)
			}
			if !want {
				refused++
			}
		}
		c.Close()
		if mayTouch := r.may("publish", "untouched") || r.may("consume", "untouched") || r.may("manage", "untouched"); mayTouch {
			admin.Do(`{"op":"queue.delete","queue":"untouched"}`)
		} else {
			admin.Fails("not_found", `{"op":"queue.info","queue":"untouched"}`)
		}
	}
	t.Logf("%d cases, %d of them refused", count, refused)
	if count < 2000 || refused < 500 || count-refused < 500 {
		t.Errorf("%d cases, %d of them refused, are not many", count, refused)
	}
}

// Before a login there are hello and ping, and nothing happens by anything else.
func TestBeforeLogin(t *testing.T) {
	s, admin := start(t, "")
	var c *harness.Conn
	for i, cell := range cells() {
		if i%10 == 0 { // there are not many lines before a login
			c = s.Dial(t)
		}
		l := c.Do("%s", cell.line)
		if open := cell.op == "hello" || cell.op == "ping"; open != l.Bool("ok") || !open && l.Code() != "unauthenticated" {
			t.Errorf("%s: %s", cell.line, l.Raw)
		}
	}
	if l := admin.OK(`{"op":"queue.list"}`); len(l.Each("queues")) != 0 {
		t.Errorf("queues were made: %s", l.Raw)
	}
}

// Nobody learns whether there is a queue that he may not see, from the error or from a list.
func TestNamesAreNotTold(t *testing.T) {
	s, admin := start(t, "")
	c := add(t, s, admin, "ann", "publish:a.*", "")
	admin.OK(`{"op":"publish","queue":"there","body":1}`)
	admin.OK(`{"op":"publish","queue":"a.seen","body":1}`)
	for _, cell := range cells() {
		if !strings.Contains(cell.line, `"queue":"b.x"`) {
			continue
		}
		is := c.Do("%s", strings.ReplaceAll(cell.line, "b.x", "there"))
		if cell.op != "cluster.leaders" { // which says where a queue of that name would be, for any name
			is.WantCode(t, "forbidden")
		}
		not := c.Do("%s", strings.ReplaceAll(cell.line, "b.x", "nothere"))
		if strings.ReplaceAll(is.Raw, "there", "N") != strings.ReplaceAll(not.Raw, "nothere", "N") {
			t.Errorf("a queue that is there: %s\none that is not: %s", is.Raw, not.Raw)
		}
	}
	if l := c.OK(`{"op":"queue.list"}`); len(l.Each("queues")) != 1 || l.Each("queues")[0].Text("queue") != "a.seen" {
		t.Errorf("the list: %s", l.Raw)
	}
	if l := c.OK(`{"op":"queue.list","limit":1,"prefix":"a"}`); len(l.Each("queues")) != 1 {
		t.Errorf("the list: %s", l.Raw)
	}
	if n := c.OK(`{"op":"server.info"}`).At("totals").Int("queues"); n != 1 {
		t.Errorf("%d queues are counted", n)
	}
}
