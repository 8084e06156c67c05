package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A fake is a table and a broker.
type fake struct {
	rows    []Row
	refused map[int64]string
	judge   func(queue string, bodies []string) Reply
	stored  map[string][]string // by destination, in order
	failing int                 // how many of the next Done fail
	looks   int
	most    int // names that a look left out
}

func (f *fake) Rows(_ context.Context, limit, _ int, butQueues, butTopics []string) (got []Row, err error) {
	f.looks++
	f.most = max(f.most, len(butQueues)+len(butTopics))
	for _, r := range f.rows {
		if len(got) < limit && !slices.Contains(butQueues, string(r.Queue)) && !slices.Contains(butTopics, string(r.Topic)) {
			got = append(got, r)
		}
	}
	return got, nil
}

func (f *fake) Done(_ context.Context, published []int64, refused map[int64]string) error {
	if f.failing > 0 {
		f.failing--
		return errors.New("away")
	}
	f.rows = slices.DeleteFunc(f.rows, func(r Row) bool {
		_, bad := refused[r.ID]
		return bad || slices.Contains(published, r.ID)
	})
	for id, why := range refused {
		f.refused[id] = why
	}
	return nil
}

func (f *fake) Publish(_ context.Context, lines [][]byte) (replies []Reply, err error) {
	for _, line := range lines {
		var l struct {
			Queue, Topic string
			Messages     []struct {
				Body    json.RawMessage
				DedupID string `json:"dedup_id"`
			}
		}
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, err
		}
		var bodies []string
		for _, m := range l.Messages {
			bodies = append(bodies, string(m.Body)+" "+m.DedupID)
		}
		r := Reply{OK: true}
		if f.judge != nil {
			r = f.judge(l.Queue+l.Topic, bodies)
		}
		if r.OK {
			for _, b := range bodies {
				if !slices.Contains(f.stored[l.Queue+l.Topic], b) { // known by its id
					f.stored[l.Queue+l.Topic] = append(f.stored[l.Queue+l.Topic], b)
				}
			}
		}
		replies = append(replies, r)
	}
	return replies, nil
}

func (f *fake) Close() {}

// move lets a mover work on the fake for some time.
func (f *fake) move(t *testing.T, d time.Duration) {
	f.refused, f.stored = map[int64]string{}, map[string][]string{}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	err := Run(ctx, Options{Table: f, Open: func() Publisher { return f }, Logf: t.Logf, MaxBody: func() int { return 100 }})
	if err != nil {
		t.Error(err)
	}
}

func row(id int64, queue, body string) Row {
	return Row{ID: id, Queue: []byte(queue), Body: []byte(body), Created: "then"}
}

func bodies(stored []string) string {
	var all []string
	for _, s := range stored {
		all = append(all, strings.Fields(s)[0])
	}
	return strings.Join(all, " ")
}

// A full queue holds up its own rows, in order, and no others.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		for i := range int64(10) {
			f.rows = append(f.rows, row(2*i, "full", fmt.Sprint(i)), row(2*i+1, "other", fmt.Sprint(i)))
		}
		began, room := time.Now(), 3
		f.judge = func(queue string, bodies []string) Reply {
			if queue == "full" && time.Since(began) > time.Minute {
				room = 100
			}
			if queue == "full" && len(bodies) > room {
				return Reply{Code: "queue_full", Retryable: true}
			}
			if queue == "full" {
				room -= len(bodies)
			}
			return Reply{OK: true}
		}
		f.move(t, 2*time.Minute)
		for _, q := range []string{"full", "other"} {
			if got := bodies(f.stored[q]); got != "0 1 2 3 4 5 6 7 8 9" {
				t.Errorf("%s: %s", q, got)
			}
		}
		if len(f.rows) != 0 || len(f.refused) != 0 {
			t.Errorf("%d rows are left, %v", len(f.rows), f.refused)
		}
		if f.looks > 2*60*60 {
			t.Errorf("%d looks in two minutes", f.looks)
		}
	})
}

// A row at fault is put aside, whoever finds the fault; those beside it are published.
func TestRowsAtFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{rows: []Row{
			row(1, "q", "1"), row(2, "q", "bad"), row(3, "q", `"evil"`), row(4, "q", "4"),
			{ID: 5, Body: []byte("5")}, {ID: 6, Queue: []byte("q"), Topic: []byte("t"), Body: []byte("6")},
			row(7, "q", strings.Repeat("7", 3000)), row(8, "q", "8 "),
		}}
		f.judge = func(_ string, bodies []string) Reply {
			for _, b := range bodies {
				if strings.HasPrefix(b, `"evil"`) {
					return Reply{Code: "bad_request", Message: "no"}
				}
			}
			return Reply{OK: true}
		}
		f.move(t, time.Second)
		if got := bodies(f.stored["q"]); got != "1 4 8" || len(f.rows) != 0 {
			t.Errorf("%s, and %d rows are left", got, len(f.rows))
		}
		if len(f.refused) != 5 || f.refused[3] != "bad_request: no" {
			t.Errorf("%v", f.refused)
		}
	})
}

// Rows that were published and could not be deleted are published again under the same ids. Where topics are among them,
// all rows keep their order.
func TestPublishedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{failing: 3}
		var lines []string
		f.judge = func(to string, bodies []string) Reply {
			lines = append(lines, to)
			return Reply{OK: true}
		}
		f.rows = []Row{row(1, "q", "1"), {ID: 2, Topic: []byte("t"), Body: []byte("2")}, row(3, "q", "3")}
		f.move(t, 10*time.Second)
		if got := f.stored["q"]; len(got) != 2 || !strings.Contains(got[0], ":1:then") {
			t.Errorf("%q", got)
		}
		if got := strings.Join(lines[:3], " "); got != "q t q" || len(lines) != 12 {
			t.Errorf("%v", lines)
		}
	})
}

// Many destinations that take nothing fill no query, and are tried again.
func TestManyPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		for i := range int64(3 * maxPaused) {
			f.rows = append(f.rows, row(i, fmt.Sprint("q", i), "1"))
		}
		began := time.Now()
		f.judge = func(string, []string) Reply {
			if time.Since(began) < time.Minute {
				return Reply{Code: "overloaded", Retryable: true}
			}
			return Reply{OK: true}
		}
		f.move(t, 3*time.Minute)
		if len(f.rows) != 0 {
			t.Errorf("%d rows are left", len(f.rows))
		}
		if f.most > maxPaused+batchRows {
			t.Errorf("a look names %d destinations", f.most)
		}
	})
}
