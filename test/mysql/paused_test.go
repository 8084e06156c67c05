//go:build unix

package mysql_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/mariadb"
)

// A server that stood still while another took its tables over finds out, confirms nothing more, and ends. R133.
func TestPausedServer(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	config := fmt.Sprintf("storage: {mysql: {dsn: %q, takeover: 1s, outbox: true}}\nqueue_defaults: {storage: mysql}\n", dsn)
	first := harness.Start(t, config)
	c, r := first.Dial(t), first.Dial(t)
	c.OK(`{"op":"publish","queue":"q","body":"first"}`)
	if err := syscall.Kill(first.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "it stands still", func() bool {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", first.PID()))
		if err != nil {
			t.Skip("this system does not tell whether a process stands still: ", err)
		}
		return strings.Contains(string(state), "State:\tT")
	})
	c.Send(`{"op":"publish","queue":"q","body":"to the one that stands still"}`)
	r.Send(`{"op":"receive","queue":"q","ack":"auto"}`)
	second := harness.Start(t, config) // waits until it may
	if log := strings.Join(second.Log(), "\n"); !strings.Contains(log, "the tables belong to") {
		t.Errorf("the second did not say for whom it waits:\n%s", log)
	}
	d := second.Dial(t)
	d.OK(`{"op":"publish","queue":"q","body":"second"}`)
	if err := syscall.Kill(first.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if code := first.ExitCode(); code != 1 {
		t.Errorf("R133: the first ends with %d", code)
	}
	if said := c.Ended(); len(said) > 0 {
		t.Errorf("R133: the first has answered %s", said[0].Raw)
	}
	for _, l := range r.Ended() {
		if strings.Contains(l.Raw, "attempt") {
			t.Errorf("R133: the first has delivered %s", l.Raw)
		}
	}
	for _, want := range []string{`"first"`, `"second"`} {
		if m := d.OK(`{"op":"receive","queue":"q"}`).Each("messages"); len(m) != 1 || m[0].Body() != want {
			t.Errorf("%v, not %s", m, want)
		}
	}
	if m := d.OK(`{"op":"receive","queue":"q"}`).Each("messages"); len(m) != 0 {
		t.Errorf("R133: %v", m)
	}
}

// A server that waits for tables can be stopped.
func TestStopWhileWaiting(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	config := fmt.Sprintf("storage: {mysql: {dsn: %q, takeover: 1h}}\n", dsn)
	harness.Start(t, config)
	second := harness.Start(t, "")
	second.Kill()
	second.Configure(config)
	if err := second.Spawn(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "it waits", func() bool { return strings.Contains(strings.Join(second.Log(), ""), "the tables belong to") })
	if code := second.Term(); code != 0 {
		t.Errorf("it ends with %d", code)
	}
}
