package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

type recorder struct{ args []any }

func (r *recorder) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	if n := strings.Count(query, "?"); n != len(args) {
		return nil, fmt.Errorf("%d arguments for %d marks", len(args), n)
	}
	r.args = args
	return nil, nil
}

func TestPublish(t *testing.T) {
	for _, c := range []struct {
		m    Message
		want string
	}{
		{Message{Queue: "q", Body: "it's"}, `[q <nil> "it's" <nil> <nil> <nil> <nil> <nil> <nil> <nil>]`},
		{Message{Topic: "t", Body: json.RawMessage(`{"a" : 1}`), Key: "k", DedupID: "d"}, `[<nil> t {"a" : 1} <nil> <nil> k <nil> <nil> <nil> d]`},
		{Message{Queue: "q", Body: []byte{1}, Headers: map[string]string{"h": "v"}}, `[q <nil> "AQ==" base64 {"h":"v"} <nil> <nil> <nil> <nil> <nil>]`},
		{Message{Queue: "q", Body: nil, Delay: time.Microsecond, TTL: time.Second, Priority: 9}, `[q <nil> null <nil> <nil> <nil> 9 1 1000 <nil>]`},
		{Message{Queue: "q", Body: 1, Delay: 1 << 62 / 1_000_000 * 1_000_000, TTL: time.Second + 1}, `[q <nil> 1 <nil> <nil> <nil> <nil> 4611686018427 1001 <nil>]`},
		{Message{Queue: "q", Body: 1, Lowest: true}, `[q <nil> 1 <nil> <nil> <nil> 0 <nil> <nil> <nil>]`},
	} {
		var r recorder
		if err := Publish(t.Context(), &r, c.m); err != nil {
			t.Error(err)
		} else if got := fmt.Sprint(r.args); got != c.want {
			t.Errorf("%+v: %s", c.m, got)
		}
	}
	for _, m := range []Message{{Body: 1}, {Queue: "q", Topic: "t", Body: 1}, {Queue: "q", Body: json.RawMessage("{")}, {Queue: "q", Body: make(chan int)}, {Queue: "q", Body: 1, Priority: 10}, {Queue: "q", Body: 1, Delay: -1}, {Queue: "q", Body: 1, TTL: -time.Second}} {
		var r recorder
		if err := Publish(t.Context(), &r, m); err == nil || r.args != nil {
			t.Errorf("%+v was taken", m)
		}
	}
}
