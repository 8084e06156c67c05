// Package mysql_test looks at the tables of a server that keeps its queues in MySQL: they say what the server says, whatever has
// happened, and the rights that the documents ask for are enough.
package mysql_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/mariadb"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

var queues = []string{"plain", "plain.dlq", "short", "short.dlq", "bound", "bound.dlq", "also", "also.dlq"}

// tables is what the table of messages says, a line for each.
func tables(t *testing.T, db *sql.DB) (all []string) {
	t.Helper()
	rows, err := db.Query("SELECT queue, seq, attempts, due IS NOT NULL AND due > UTC_TIMESTAMP(6), body FROM gmq_messages ORDER BY queue, seq")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var queue, body string
		var seq, attempts int64
		var delayed bool
		if err := rows.Scan(&queue, &seq, &attempts, &delayed, &body); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %d attempts %d delayed %v %s", queue, seq, attempts, delayed, body))
	}
	return all
}

// peeked is what the server says, in the same lines.
func peeked(c *harness.Conn) (all []string) {
	for _, q := range slices.Sorted(slices.Values(queues)) {
		l := c.Do(`{"op":"queue.peek","queue":"%s","limit":1000}`, q)
		if l.Code() == "not_found" {
			continue
		}
		for _, m := range l.Each("messages") {
			all = append(all, fmt.Sprintf("%s %d attempts %d delayed %v %s", q, m.Int("seq"), m.Int("attempt"), m.Text("state") == "delayed", m.Body()))
		}
	}
	return all
}

func sameAsServer(t *testing.T, c *harness.Conn, db *sql.DB, when string) {
	t.Helper()
	var there, here []string
	deadline := time.Now().Add(10 * time.Second) // rows go a moment after their messages
	for there, here = tables(t, db), peeked(c); !slices.Equal(there, here) && time.Now().Before(deadline); there, here = tables(t, db), peeked(c) {
	}
	if !slices.Equal(there, here) {
		t.Fatalf("%s: the table says\n%s\nand the server\n%s", when, strings.Join(there, "\n"), strings.Join(here, "\n"))
	}
}

// The table of messages is what the queues hold, through everything that can happen to a message.
func TestTables(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	s := harness.Start(t, "")
	s.UseMySQL(dsn)
	s.Restart()
	db := mariadb.Connect(t, dsn)
	seed := rand.Uint64()
	t.Log("seed ", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	c := s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"plain","max_deliveries":2,"retry":{"min":"1h","max":"1h","jitter":0}}`)
	c.OK(`{"op":"queue.create","queue":"short","max_messages":8,"overflow":"dead_letter"}`)
	c.OK(`{"op":"queue.create","queue":"bound"}`)
	c.OK(`{"op":"queue.create","queue":"also","max_messages":5,"overflow":"drop_oldest"}`)
	c.OK(`{"op":"queue.bind","queue":"bound","topic":"t.>"}`)
	c.OK(`{"op":"queue.bind","queue":"also","topic":"t.x"}`)
	pick := func(all ...string) string { return all[chance.IntN(len(all))] }
	for step := range 400 {
		q := pick("plain", "short", "bound", "also")
		switch chance.IntN(12) {
		case 0, 1, 2:
			c.Do(`{"op":"publish","queue":"%s","messages":[{"body":%d},{"body":{"n":"it's \\ %d"},"delay":"%s"},{"body":"x","key":"k","priority":%d}]}`, q, step, step, pick("0s", "1h"), chance.IntN(10))
		case 3, 4:
			c.OK(`{"op":"publish","topic":"%s","messages":[{"body":"to all %d"},{"body":2,"headers":{"a":"b"}}]}`, pick("t.x", "t.y"), step)
		case 5, 6, 7:
			for _, m := range c.OK(`{"op":"receive","queue":"%s","max":4}`, q).Each("messages") {
				c.OK(pick(`{"op":"ack","queue":"%s","seq":%d}`, `{"op":"nack","queue":"%s","seq":%d}`, `{"op":"nack","queue":"%s","seq":%d,"dead":true}`, `{"op":"nack","queue":"%s","seq":%d,"delay":"2h"}`), q, m.Int("seq"))
			}
		case 8:
			c.Do(`{"op":"queue.reschedule","queue":"%s","seq":%d,"delay":"%s"}`, q, 1+chance.IntN(20), pick("0s", "3h"))
		case 9:
			c.Do(`{"op":"queue.cancel","queue":"%s","seq":%d}`, q, 1+chance.IntN(40))
		case 10:
			c.Do(`{"op":"queue.redrive","queue":"%s.dlq"%s}`, pick("plain", "short"), pick("", `,"to":"bound"`))
		case 11:
			if chance.IntN(8) == 0 {
				c.Do(`{"op":"queue.purge","queue":"%s"}`, q)
			}
		}
		switch {
		case step%100 == 99:
			s.Restart()
			c = s.Dial(t)
			sameAsServer(t, c, db, fmt.Sprint("after a kill at step ", step))
		case step%20 == 19:
			sameAsServer(t, c, db, fmt.Sprint("step ", step))
		}
	}
	for _, q := range queues {
		c.Do(`{"op":"queue.purge","queue":"%s"}`, q)
	}
	harness.Eventually(t, "nothing is left", func() bool {
		n := 1
		if err := db.QueryRow("SELECT (SELECT COUNT(*) FROM gmq_message) + (SELECT COUNT(*) FROM gmq_body)").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}

// The rights that docs/mysql.md asks for are enough, for the server and for an application; and the password is shown nowhere.
func TestGrants(t *testing.T) {
	server := mariadb.Get(t)
	dsn := server.Database(t)
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	admin := server.Admin(t)
	user, app := "gmq_"+cfg.DBName[9:], "app_"+cfg.DBName[9:]
	do := func(query string) {
		t.Helper()
		if _, err := admin.Exec(query); err != nil && !server.Private() {
			t.Skip("the user of this server may not give rights to others: ", err)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range []string{user, app} {
		do(fmt.Sprintf("CREATE USER '%s'@'%%' IDENTIFIED BY 'canary-secret'", u))
		t.Cleanup(func() { admin.Exec(fmt.Sprintf("DROP USER '%s'@'%%'", u)) })
	}
	do(fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, CREATE VIEW ON %s.* TO '%s'@'%%'", cfg.DBName, user))
	own := cfg.Clone()
	own.User, own.Passwd = user, "canary-secret"
	s := harness.Start(t, "")
	s.UseMySQL(own.FormatDSN())
	s.Restart()
	c := s.Dial(t)
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	do(fmt.Sprintf("GRANT INSERT (queue, topic, body, encoding, headers, message_key, priority, delay_ms, ttl_ms, dedup_id) ON %s.gmq_outbox TO '%s'@'%%'", cfg.DBName, app))
	own.User = app
	if _, err := mariadb.Connect(t, own.FormatDSN()).Exec(`INSERT INTO gmq_outbox (queue, body) VALUES ('q', '2')`); err != nil {
		t.Error(err)
	}

	// A server that is made read-only refuses us, and nothing is lost.
	if server.Private() {
		c.OK(`{"op":"queue.create","queue":"files","storage":"file"}`)
		do("SET GLOBAL read_only = 1")
		caught := s.Dial(t) // what is caught in a transaction waits
		caught.Send(`{"op":"publish","queue":"q","body":3}`)
		harness.Eventually(t, "it has noticed", func() bool { return strings.Contains(strings.Join(s.Log(), ""), "nothing can be stored") })
		c.Fails("overloaded", `{"op":"publish","queue":"q","body":"no"}`)
		c.OK(`{"op":"publish","queue":"files","body":"the others go on"}`)
		do("SET GLOBAL read_only = 0")
		if l := caught.Reply(); !l.Bool("ok") {
			t.Error(l.Raw)
		}
		harness.Eventually(t, "it takes messages again", func() bool { return c.Do(`{"op":"publish","queue":"q","body":4}`).Bool("ok") })
	}
	// Where the tables are there, no right to make them is needed.
	do(fmt.Sprintf("REVOKE CREATE, ALTER, INDEX, CREATE VIEW ON %s.* FROM '%s'@'%%'", cfg.DBName, user))
	s.Restart()
	if log := strings.Join(s.Log(), "\n"); strings.Contains(log, "canary-secret") {
		t.Error("the password is in the log")
	}
}
