package gmq

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// carries checks what a request says behind its op and queue.
func carries(t *testing.T, r request, want string) {
	t.Helper()
	if !strings.HasSuffix(r.raw, `"queue":"q"`+want+"}\n") {
		t.Errorf("the client sent %s, wanted %s", r.raw, want)
	}
}

// peeked is a message of queue.peek's reply.
func peeked(seq int) string {
	return fmt.Sprintf(`{"queue":"q","seq":%d,"attempt":0,"state":"ready","published":"2026-01-02T03:04:05.5Z","body":%[1]d}`, seq)
}

func TestPeek(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		peek := func(state string, after uint64, limit int) <-chan outcome[[]*Peeked] {
			return going(func() (ps []*Peeked, err error) {
				for p, err := range q.Peek(t.Context(), state, after, limit) {
					if err != nil {
						return ps, err
					}
					ps = append(ps, p)
				}
				return ps, nil
			})
		}
		got := peek("delayed", 3, 2)
		r := s.expect("queue.peek")
		carries(t, r, `,"state":"delayed","after":3,"limit":2`)
		s.ok(r, `"messages":[`+
			`{"queue":"q","seq":4,"attempt":0,"state":"delayed","until":"2026-02-02T00:00:00Z","published":"2026-01-02T03:04:05.5Z","body":{ "a" : 1}},`+
			`{"queue":"q","seq":9,"attempt":2,"state":"delayed","published":"2026-01-02T03:04:05Z","headers":{"a":"b"},"key":"k","encoding":"base64","body":"aGk="}]`)
		o := <-got
		if o.err != nil || len(o.v) != 2 {
			t.Fatalf("%+v", o)
		}
		a, b := o.v[0], o.v[1]
		if a.Seq != 4 || a.State != "delayed" || a.Until.Month() != time.February || a.Attempts != 0 || a.Published.Nanosecond() != 5e8 || string(a.Body) != `{ "a" : 1}` {
			t.Errorf("%+v", a)
		}
		if b.Attempts != 2 || !b.Until.IsZero() || b.Headers["a"] != "b" || b.Key != "k" || b.Text() != "hi" {
			t.Errorf("%+v", b)
		}
		var v struct{ A int }
		if err := a.Decode(&v); err != nil || v.A != 1 {
			t.Errorf("%v, %v", v, err)
		}
		if err := b.Decode(&v); err == nil || !strings.Contains(err.Error(), "message 9 of q") {
			t.Errorf("%v does not say which message", err)
		}

		// The server cuts where it likes; only an empty page is the end.
		got = peek("", 0, 0)
		r = s.expect("queue.peek")
		carries(t, r, `,"limit":1000`)
		s.ok(r, `"messages":[`+peeked(1)+`,`+peeked(7)+`]`)
		r = s.expect("queue.peek")
		carries(t, r, `,"after":7,"limit":1000`)
		s.ok(r, `"messages":[]`)
		if o := <-got; o.err != nil || len(o.v) != 2 || o.v[1].Seq != 7 {
			t.Fatalf("%+v", o)
		}
		got = peek("", 0, 3)
		s.ok(s.expect("queue.peek"), `"messages":[`+peeked(1)+`,`+peeked(2)+`]`)
		r = s.expect("queue.peek")
		carries(t, r, `,"after":2,"limit":1`)
		s.refuse(r, "not_found", false)
		if o := <-got; !errors.Is(o.err, ErrNotFound) || len(o.v) != 2 {
			t.Fatalf("%+v", o)
		}
	})
}

func TestExplain(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		got := going(func() (Explanation, error) { return q.Explain(t.Context(), 5) })
		r := s.expect("queue.explain")
		carries(t, r, `,"seq":5`)
		s.ok(r, `"state":"leased","because":"it is leased by ann until 2026-01-02T03:04:05Z","until":"2026-01-02T03:04:05.5Z",`+
			`"lease":{"consumer":"ann","until":"2026-01-02T03:04:05.5Z"},"attempts":2,`+
			`"history":[{"at":"2026-01-02T03:03:05Z","event":"returned","reason":"nack","attempts":1}],"new":1`)
		o := <-got
		x := o.v
		if o.err != nil || x.State != "leased" || !strings.HasPrefix(x.Because, "it is leased by ann") || x.Until.Second() != 5 || x.Attempts != 2 {
			t.Fatalf("%+v", o)
		}
		if x.Lease == nil || x.Lease.Consumer != "ann" || !x.Lease.Until.Equal(x.Until) || !strings.Contains(string(x.Raw), `"new":1`) {
			t.Errorf("%+v", x)
		}
		if len(x.History) != 1 || x.History[0].Event != "returned" || x.History[0].Reason != "nack" || x.History[0].Attempts != 1 || x.History[0].At.IsZero() {
			t.Errorf("%+v", x.History)
		}
		got = going(func() (Explanation, error) { return q.Explain(t.Context(), 6) })
		s.ok(s.expect("queue.explain"), `"state":"ready","because":"nobody consumes queue q","attempts":0,"history":[]`)
		if o := <-got; o.err != nil || o.v.Lease != nil || !o.v.Until.IsZero() || len(o.v.History) != 0 {
			t.Fatalf("%+v", o)
		}
		got = going(func() (Explanation, error) { return q.Explain(t.Context(), 7) })
		s.refuse(s.expect("queue.explain"), "not_found", false)
		if o := <-got; !errors.Is(o.err, ErrNotFound) {
			t.Fatalf("%+v", o)
		}
	})
}

func TestCancelAndReschedule(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		at := time.Date(2030, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600))
		for _, test := range []struct {
			when DueOption
			want string
		}{
			{Delay(90 * time.Second), `,"seq":5,"delay":"1m30s"`},
			{Delay(0), `,"seq":5,"delay":"0s"`},
			{Delay(-time.Second), `,"seq":5,"delay":"0s"`},
			{At(at), `,"seq":5,"at":"2030-01-02T02:04:05.0000006Z"`},
		} {
			got := going(func() (struct{}, error) { return done(q.Reschedule(t.Context(), 5, test.when)) })
			r := s.expect("queue.reschedule")
			carries(t, r, test.want)
			s.ok(r, "")
			if o := <-got; o.err != nil {
				t.Fatal(o.err)
			}
		}
		got := going(func() (struct{}, error) { return done(q.Cancel(t.Context(), 5)) })
		r := s.expect("queue.cancel")
		carries(t, r, `,"seq":5`)
		s.refuse(r, "not_found", false)
		if o := <-got; !errors.Is(o.err, ErrNotFound) {
			t.Fatalf("got %v", o.err)
		}
		// A second try could not tell its own success from a stranger's; a new time can be set twice.
		got = going(func() (struct{}, error) { return done(q.Cancel(t.Context(), 6)) })
		s.expect("queue.cancel")
		moved := going(func() (struct{}, error) { return done(q.Reschedule(t.Context(), 7, At(at))) })
		s.expect("queue.reschedule")
		_ = s.Close()
		s = f.accept()
		defer s.Close()
		s.ok(s.expect("queue.reschedule"), "")
		if o := <-got; !errors.Is(o.err, ErrUnknownOutcome) {
			t.Fatalf("got %v", o.err)
		}
		if o := <-moved; o.err != nil {
			t.Fatal(o.err)
		}
	})
}

func TestRedrive(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		q := c.Queue("q")
		for _, test := range []struct {
			do      func() (int, error)
			replies []string // what is asked, and how many were moved
			moved   int
		}{
			{func() (int, error) { return q.Redrive(t.Context(), 5) }, []string{`,"max":5`, "5"}, 5},
			{func() (int, error) { return q.Redrive(t.Context(), 0) }, []string{"", "0", `,"max":1`, "0"}, 0},
			{func() (int, error) { return q.Redrive(t.Context(), 0) }, []string{"", "100017", `,"max":100000`, "100000", `,"max":17`, "17"}, 100017},
			{func() (int, error) { return q.Redrive(t.Context(), 0) }, []string{"", "150000", `,"max":100000`, "99990", `,"max":50010`, "50000", `,"max":10`, "0"}, 149_990},
			{func() (int, error) { return q.Redrive(t.Context(), 250_000) }, []string{`,"max":100000`, "100000", `,"max":100000`, "100000", `,"max":50000`, "50000"}, 250_000},
			{func() (int, error) { return q.RedriveTo(t.Context(), "other", 3) }, []string{`,"to":"other","max":3`, "2", `,"to":"other","max":1`, "0"}, 2},
		} {
			got := going(test.do)
			for i := 0; i < len(test.replies); i += 2 {
				if test.replies[i] == "" { // how many there are
					s.ok(s.expect("queue.info"), `"settings":{"lease":"30s"},"counts":{"ready":`+test.replies[i+1]+`},"oldest_age":"0s"`)
					continue
				}
				r := s.expect("queue.redrive")
				carries(t, r, test.replies[i])
				s.ok(r, `"moved":`+test.replies[i+1])
			}
			if o := <-got; o.err != nil || o.v != test.moved {
				t.Fatalf("%+v, wanted %d", o, test.moved)
			}
		}
		got := going(func() (int, error) { return q.Redrive(t.Context(), 200_000) })
		s.ok(s.expect("queue.redrive"), `"moved":100000`)
		s.expect("queue.redrive")
		_ = s.Close()
		f.accept().Close()
		if o := <-got; o.v != 100_000 || !errors.Is(o.err, ErrUnknownOutcome) {
			t.Fatalf("%+v", o)
		}
	})
}

func TestPurge(t *testing.T) {
	with(t, func(t *testing.T, f *fake, c *Client, s *fakeConn) {
		for state, want := range map[string]string{"": "", "delayed": `,"state":"delayed"`} {
			got := going(func() (uint64, error) { return c.PurgeState(t.Context(), "q", state) })
			r := s.expect("queue.purge")
			carries(t, r, want)
			s.ok(r, `"purged":17`)
			if o := <-got; o.err != nil || o.v != 17 {
				t.Fatalf("%+v", o)
			}
		}
		all := going(func() (struct{}, error) { return done(c.Purge(t.Context(), "q")) })
		s.refuse(s.expect("queue.purge"), "not_found", false)
		if o := <-all; !errors.Is(o.err, ErrNotFound) {
			t.Fatal(o.err)
		}
		got := going(func() (uint64, error) { return c.PurgeState(t.Context(), "q", "ready") })
		s.expect("queue.purge")
		_ = s.Close()
		f.accept().Close()
		if o := <-got; !errors.Is(o.err, ErrUnknownOutcome) {
			t.Fatalf("%+v", o)
		}
	})
}

func TestSettingsThereAndBack(t *testing.T) {
	with(t, func(t *testing.T, _ *fake, c *Client, s *fakeConn) {
		set := going(func() (struct{}, error) {
			return done(c.UpdateQueue(t.Context(), "q", Settings{TTL: time.Hour, DedupWindow: None, DeadLetterExpired: new(true)}))
		})
		r := s.expect("queue.update")
		carries(t, r, `,"ttl":"1h0m0s","dedup_window":"0s","dead_letter_expired":true`)
		s.ok(r, "")
		if o := <-set; o.err != nil {
			t.Fatal(o.err)
		}
		got := going(func() (QueueInfo, error) { return c.QueueInfo(t.Context(), "q") })
		s.ok(s.expect("queue.info"), `"queue":"q","settings":{"storage":"file","ttl":"1h0m0s","dedup_window":"5m0s","dead_letter_expired":true},`+
			`"counts":{"published":3,"expired":1,"redriven":2},"oldest_age":"0s","consumers":0,"paused":false`)
		o := <-got
		in := o.v.Settings
		if o.err != nil || in.TTL != time.Hour || in.DedupWindow != 5*time.Minute || in.DeadLetterExpired == nil || !*in.DeadLetterExpired || o.v.Counts.Redriven != 2 {
			t.Fatalf("%+v", o)
		}
	})
}
