// Package outbox_test inserts messages into the outbox of a real database, in transactions of which some are rolled back,
// while the server that moves them is killed again and again; and looks what has come of them.
package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gmq/gmq/client/outbox"
	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/mariadb"
)

var (
	rows  = flag.Int("rows", 6000, "how many rows are inserted")
	kills = flag.Int("kills", 6, "how often the server is killed meanwhile")
	seed  = flag.Uint64("seed", 0, "of what is rolled back, and of the moments of the kills; 0: a new one")
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const writers = 8

// start is a server that moves the outbox of a new database, and that database.
func start(t testing.TB) (*harness.Server, *sql.DB) {
	t.Helper()
	dsn := mariadb.Get(t).Database(t)
	s := harness.Start(t, "storage: {mysql: {dsn: "+fmt.Sprintf("%q", dsn)+", outbox: true}}\n")
	return s, mariadb.Connect(t, dsn)
}

// A ticket is a body: who has inserted it, and the how-manieth of his it is.
type ticket struct{ W, N int }

var queues = []string{"files", "tables"}

func TestOutbox(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("go test -count=1 ./test/outbox -run TestOutbox -rows %d -kills %d -seed %d", *rows, *kills, *seed)
	s, db := start(t)
	c := s.Dial(t)
	for i, q := range queues {
		c.OK(`{"op":"queue.create","queue":"%s","storage":"%s","dedup_window":"1h"}`, q, []string{"file", "mysql"}[i])
	}
	began := time.Now()
	committed := make([][]bool, writers) // by writer and number
	var inserting sync.WaitGroup
	for w := range writers {
		inserting.Go(func() { committed[w] = insert(t, db, w, *rows/writers) })
	}
	done := make(chan struct{})
	go func() { inserting.Wait(); close(done) }()
	chance := rand.New(rand.NewPCG(*seed, 1))
	killed := 0
	for ; killed < *kills; killed++ {
		<-time.After(time.Duration(chance.Int64N(int64(150 * time.Millisecond))))
		s.Restart()
	}
	<-done
	harness.Eventually(t, "the outbox is empty", func() bool { return count(t, db, "gmq_outbox") == 0 })
	if n := count(t, db, "gmq_outbox_error"); n != 0 {
		t.Errorf("%d rows could not be published", n)
	}
	s.Restart()
	delivered := 0
	seen := map[ticket]int{}
	for _, q := range queues {
		delivered += drain(t, s, q, seen)
	}
	want := 0
	for w := range committed {
		for n, ok := range committed[w] {
			if ok {
				want++
			}
			switch got := seen[ticket{w, n}]; {
			case ok && got != 1:
				t.Errorf("row %d of writer %d was committed, and is there %d times", n, w, got)
			case !ok && got != 0:
				t.Errorf("row %d of writer %d was rolled back, and is there", n, w)
			}
		}
	}
	t.Logf("%d rows committed of %d, %d delivered, %d kills, %.1f s", want, *rows, delivered, killed, time.Since(began).Seconds())
}

// insert inserts n rows, a few in each transaction, and says which of them were committed.
func insert(t *testing.T, db *sql.DB, w, n int) []bool {
	chance := rand.New(rand.NewPCG(*seed, uint64(w+2)))
	committed := make([]bool, n)
	ctx := context.Background()
	for at := 0; at < n; {
		some := min(1+chance.IntN(5), n-at)
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Error(err)
			return committed
		}
		for i := range some {
			if err := outbox.Publish(ctx, tx, outbox.Message{Queue: queues[(at+i)%2], Body: ticket{w, at + i}, Headers: map[string]string{"writer": fmt.Sprint(w)}}); err != nil {
				t.Error(err)
				return committed
			}
		}
		if keep := chance.IntN(4) > 0; keep {
			err = tx.Commit()
			for i := range some {
				committed[at+i] = true
			}
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			t.Error(err)
			return committed
		}
		at += some
	}
	return committed
}

func count(t testing.TB, db *sql.DB, table string) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// drain takes all that a queue has. What one writer has committed there must come in the order in which it did.
func drain(t *testing.T, s *harness.Server, queue string, seen map[ticket]int) (n int) {
	t.Helper()
	c := s.Dial(t)
	last := make([]int, writers)
	for w := range last {
		last[w] = -1
	}
	for {
		got := c.OK(`{"op":"receive","queue":"%s","max":1000,"ack":"auto"}`, queue).Each("messages")
		if len(got) == 0 {
			return n
		}
		for _, m := range got {
			var k ticket
			if err := json.Unmarshal(m.Fields["body"], &k); err != nil {
				t.Fatal(err)
			}
			if k.N <= last[k.W] {
				t.Errorf("%s: row %d of writer %d comes behind row %d", queue, k.N, k.W, last[k.W])
			}
			last[k.W] = k.N
			if w := m.At("headers").Text("writer"); w != fmt.Sprint(k.W) {
				t.Errorf("header writer is %q", w)
			}
			seen[k]++
			n++
		}
	}
}

// Everything that a row can say arrives, and a row at fault blocks none.
func TestRows(t *testing.T) {
	s, db := start(t)
	c := s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"bound"}`)
	c.OK(`{"op":"queue.bind","queue":"bound","topic":"t.*"}`)
	c.OK(`{"op":"queue.create","queue":"full","max_messages":1}`)
	for _, q := range []string{
		`(queue, body, headers, message_key, priority, delay_ms, dedup_id) VALUES ('q', '{"a" :\n 1}', '{"h":"v"}', 'k', 9, 0, 'd')`,
		`(queue, body) VALUES ('no name', '1')`,
		`(queue, body) VALUES ('q', 'no JSON')`,
		`(queue, body) VALUES ('q', '1},{"body":2')`,
		`(queue, topic, body) VALUES ('q', 't.a', '1')`,
		`(queue, body, headers) VALUES ('q', '1', '[]')`,
		`(queue, body) VALUES ('full', '"first"'), ('full', '"second"')`,
		`(queue, body, encoding) VALUES ('q', '"aGk="', 'base64')`,
		`(topic, body) VALUES ('t.a', '"to all"')`,
		`(topic, body) VALUES ('nobody.wants.it', '1')`,
		`(queue, body) VALUES ('q', '"last"')`,
	} {
		if _, err := db.Exec("INSERT INTO gmq_outbox " + q); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, "all is moved but what has no room", func() bool { return count(t, db, "gmq_outbox") == 1 })
	if n := count(t, db, "gmq_outbox_error"); n != 5 {
		t.Errorf("%d rows are at fault, not 5", n)
	}
	first := c.OK(`{"op":"receive","queue":"q"}`).Each("messages")[0]
	if first.Body() != `{"a" :  1}` || first.Text("key") != "k" || first.At("headers").Text("h") != "v" {
		t.Errorf("%s", first.Raw)
	}
	for _, want := range []string{`"aGk="`, `"last"`} {
		if m := c.OK(`{"op":"receive","queue":"q"}`).Each("messages")[0]; m.Body() != want {
			t.Errorf("%s, not %s", m.Raw, want)
		}
	}
	if m := c.OK(`{"op":"receive","queue":"bound"}`).Each("messages")[0]; m.Body() != `"to all"` || m.Text("topic") != "t.a" {
		t.Errorf("%s", m.Raw)
	}
	c.OK(`{"op":"receive","queue":"full","ack":"auto"}`)
	if m := c.OK(`{"op":"receive","queue":"full","wait":"1m"}`).Each("messages")[0]; m.Body() != `"second"` {
		t.Errorf("%s", m.Raw)
	}
	harness.Eventually(t, "the outbox is empty", func() bool { return count(t, db, "gmq_outbox") == 0 })
}

// BenchmarkLatency is the time from a commit to the delivery, with nothing else going on.
func BenchmarkLatency(b *testing.B) {
	s, db := start(b)
	c := s.Dial(b)
	for b.Loop() {
		if err := outbox.Publish(b.Context(), db, outbox.Message{Queue: "q", Body: 1}); err != nil {
			b.Fatal(err)
		}
		c.OK(`{"op":"receive","queue":"q","wait":"1m","ack":"auto"}`)
	}
}
