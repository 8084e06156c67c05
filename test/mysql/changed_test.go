package mysql_test

import (
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/mariadb"
)

// A row that was changed by hand is never delivered; the server ends, and says which message it was.
func TestRowChanged(t *testing.T) {
	for _, statement := range []string{
		"UPDATE gmq_message SET body = '2' WHERE seq = 2",
		"DELETE FROM gmq_message WHERE seq = 2",
	} {
		dsn := mariadb.Get(t).Database(t)
		s := harness.Start(t, "")
		s.UseMySQL(dsn)
		s.Restart()
		c := s.Dial(t)
		c.OK(`{"op":"publish","queue":"q","messages":[{"body":"a"},{"body":"b"},{"body":"c"}]}`)
		s.Kill()
		if _, err := mariadb.Connect(t, dsn).Exec(statement); err != nil {
			t.Fatal(err)
		}
		if err := s.Up(); err != nil {
			t.Fatal(err)
		}
		c = s.Dial(t)
		c.Send(`{"op":"receive","queue":"q","max":3}`)
		if code := s.ExitCode(); code != 1 {
			t.Errorf("%s: it ends with %d", statement, code)
		}
		if log := strings.Join(s.Log(), "\n"); !strings.Contains(log, `queue \"q\", message 2`) && !strings.Contains(log, `queue "q", message 2`) {
			t.Errorf("%s: the log does not name the message:\n%s", statement, log)
		}
		for _, l := range c.Ended() {
			if strings.Contains(l.Raw, "attempt") {
				t.Errorf("%s: it delivers %s", statement, l.Raw)
			}
		}
		// Whoever takes the message out in time goes on.
		if err := s.Up(); err != nil {
			t.Fatal(err)
		}
		c = s.Dial(t)
		c.OK(`{"op":"queue.cancel","queue":"q","seq":2}`)
		if ms := c.OK(`{"op":"receive","queue":"q","max":3}`).Each("messages"); len(ms) != 2 {
			t.Errorf("%s: %d messages, not 2", statement, len(ms))
		}
	}
}
