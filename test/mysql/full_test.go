package mysql_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/mariadb"
)

// Where the database has no space publishes are refused as what it is, what is there is delivered, queues in files go on, and all
// goes on by itself when there is space again.
func TestFullDatabase(t *testing.T) {
	mariadb.Get(t).NeedPrivate(t)
	small := mariadb.Small(t)
	dsn := small.Database(t)
	s := harness.Start(t, "storage: {mysql: {dsn: "+fmt.Sprintf("%q", dsn)+"}}\n")
	c := s.Dial(t)
	c.OK(`{"op":"queue.create","queue":"q","storage":"mysql"}`)
	c.OK(`{"op":"queue.create","queue":"files","storage":"file"}`)
	c.OK(`{"op":"publish","queue":"q","body":"first"}`)
	db := mariadb.Connect(t, dsn)
	if _, err := db.Exec("CREATE TABLE ballast (b LONGBLOB)"); err != nil {
		t.Fatal(err)
	}
	for size := 4 << 20; size >= 16<<10; { // until nothing goes in
		if _, err := db.Exec("INSERT INTO ballast VALUES (REPEAT('x', ?))", size); err != nil {
			size /= 2
		}
	}
	full := func() bool { return strings.Contains(strings.Join(s.Log(), ""), "nothing can be stored") }
	caught := s.Dial(t)
	line := fmt.Sprintf(`{"op":"publish","queue":"q","body":"%s"}`, strings.Repeat("x", 900_000))
	harness.Eventually(t, "a publish is caught", func() bool {
		if !full() {
			caught.Send(line)
		}
		return full()
	})
	c.Fails("disk_full", `{"op":"publish","queue":"q","body":"no"}`)
	c.OK(`{"op":"publish","queue":"files","body":"the others go on"}`)
	if m := c.OK(`{"op":"receive","queue":"q"}`).Each("messages"); len(m) != 1 || m[0].Body() != `"first"` {
		t.Errorf("%v", m)
	}
	if err := small.Enlarge(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "it takes messages again", func() bool { return c.Do(`{"op":"publish","queue":"q","body":"again"}`).Bool("ok") })
	c.OK(`{"op":"ack","queue":"q","seq":1}`)
	s.Restart()
	if m := s.Dial(t).OK(`{"op":"receive","queue":"q"}`).Each("messages"); len(m) != 1 || m[0].Int("seq") != 2 {
		t.Errorf("what was caught is not there: %v", m)
	}
}
