package wire

import (
	"slices"
	"strings"
	"testing"
)

// Every operation says what it needs for each of its fields that can name a queue or a topic; one that does not is refused
// to everybody.
func TestEveryOperationNeedsSomething(t *testing.T) {
	open, free := []string{}, []string{}
	for op := OpNone + 1; op < opCount; op++ {
		needs, isOpen, known := Needs(op)
		if !known {
			t.Errorf("%s has no line in the table of what operations need", op)
		}
		if isOpen {
			open = append(open, op.String())
		} else if len(needs) == 0 {
			free = append(free, op.String())
		}
		var fields Field
		for _, n := range needs {
			if fields |= n.Field; n.Field&^NamingFields != 0 {
				t.Errorf("%s: %s names nothing", op, FieldName(n.Field))
			}
		}
		if missing := OpFields(op) & NamingFields &^ fields; missing != 0 {
			t.Errorf("%s: the table does not say what %s needs", op, FieldName(missing))
		}
	}
	slices.Sort(free)
	if !slices.Equal(open, []string{"hello", "ping"}) || !slices.Equal(free, []string{"queue.list", "server.info", "unsubscribe"}) {
		t.Errorf("open to everybody are %v, to all users %v", open, free)
	}
	for _, op := range []Op{OpNone, opCount, 200} {
		if _, open, known := Needs(op); open || known {
			t.Errorf("%d is known", op)
		}
	}
	// A field that could name something and that nobody has thought of.
	for n, name := range fieldNames {
		if f := Field(1) << n; strings.Contains(name, "queue") && f&NamingFields == 0 || strings.Contains(name, "topic") && f&NamingFields == 0 {
			t.Errorf("%s is not among the fields that name something", name)
		}
	}
}

func TestVerbs(t *testing.T) {
	for _, name := range verbNames {
		if v := ParseVerb(name); v == 0 || v.String() != name {
			t.Errorf("%s is %d, %s", name, v, v)
		}
	}
	if ParseVerb("*") != AnyVerb || ParseVerb("") != 0 || ParseVerb("Publish") != 0 || AnyVerb.String() != "publish or consume or peek or manage or admin" {
		t.Error(AnyVerb)
	}
}

func TestHeader(t *testing.T) {
	for _, c := range []struct{ headers, want string }{
		{`{"reply_to":"a.b"}`, "a.b"}, {`{ "x" : "reply_to" , "reply_to" : "a" }`, "a"}, {`{"x":"y"}`, "-"}, {``, "-"},
		{`{"\u0072eply_to":"a\u002eb"}`, "a.b"}, {`{"x\"":"\\","reply_to":""}`, ""}, {`{"Reply_to":"a"}`, "-"},
	} {
		v, ok := Header([]byte(c.headers), "reply_to", nil)
		if got := string(v); ok != (c.want != "-") || ok && got != c.want {
			t.Errorf("%s: %q, %v", c.headers, got, ok)
		}
	}
}
