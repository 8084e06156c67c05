package page

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/gmq/gmq/test/harness"
)

// What a page costs the server, with 10,000 queues: printed, as it is a measurement. Only that it works is asserted.
func TestCost(t *testing.T) {
	if testing.Short() || os.Getenv("GMQ_TEST_COST") == "" {
		t.Skip("it measures for half a minute, where GMQ_TEST_COST is set")
	}
	s := manyQueues(t)
	p := open(t, 1440, 900, false)
	idle := cost(t, s)
	t.Logf("nobody looks: %.2f %% of a core", idle)
	for _, place := range []struct{ path, there string }{
		{"", `document.querySelectorAll("#busiest tbody tr").length === 10`},
		{"queues?sort=ready&down=true", `document.querySelectorAll("tbody tr").length === 50`},
		{"queues/many.00017", `document.querySelector("#settings dd")`},
	} {
		p.visit(s, place.path)
		p.until(place.there)
		t.Logf("/%s: %.2f %% of a core", place.path, cost(t, s))
	}
	p.do(chromedp.Navigate("about:blank"))
	t.Logf("closed again: %.2f %% of a core", cost(t, s))
}

// Ten thousand queues are listed, found and paged through.
func TestTenThousandQueues(t *testing.T) {
	t.Parallel()
	s := manyQueues(t)
	p := open(t, 1440, 900, false)
	p.visit(s, "queues")
	p.says(".total", "10,000 queues")
	p.until(`document.querySelectorAll("tbody tr").length === 50 && document.querySelector("tbody a").textContent === "many.00000"`)
	p.button(".pages", "Next →")
	p.until(`document.querySelector("tbody a").textContent === "many.00050"`)
	p.button("thead", "Ready")
	p.until(`document.querySelector("tbody a").textContent === "many.09999"`) // which has the most
	p.write("input[type=search]", "many.042")
	p.says(".total", "100 queues")
	p.until(`document.querySelector("tbody a").textContent.startsWith("many.042")`)
}

// manyQueues starts a server with 10,000 queues, of which a few have messages.
func manyQueues(t *testing.T) *harness.Server {
	t.Helper()
	s := harness.Start(t, "admin: 127.0.0.1:0\nlimits: {max_queues: 20000}\nqueue_defaults: {storage: memory}\n")
	c := s.Dial(t)
	var lines strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&lines, `{"op":"publish","queue":"many.%05d","body":1,"quiet":true}`+"\n", i)
	}
	c.SendRaw([]byte(lines.String()))
	c.OK(`{"op":"publish","queue":"many.09999","messages":[{"body":1},{"body":2}]}`)
	for c.OK(`{"op":"server.info"}`).At("totals").Int("queues") < 10_000 { // it does not wait for what is on its way (R55)
		if t.Context().Err() != nil {
			t.Fatal("the queues do not come")
		}
	}
	return s
}

// cost is how much of a core the server takes, in percent, over some seconds.
func cost(t *testing.T, s *harness.Server) float64 {
	t.Helper()
	const over = 6 * time.Second
	before := ticks(t, s.PID())
	<-time.After(over)
	return float64(ticks(t, s.PID())-before) / 100 / over.Seconds() * 100
}

// ticks is the processor time that a process has had, in hundredths of a second (proc(5), stat).
func ticks(t *testing.T, pid int) (n int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	for _, f := range strings.Fields(rest)[11:13] {
		one, _ := strconv.Atoi(f)
		n += one
	}
	return n
}
