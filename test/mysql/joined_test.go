package mysql_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/test/mariadb"
)

// bound is how many queues are bound to a topic: enough to be in several shards.
const bound = 6

// A server with queues in MySQL keeps them when it becomes the first node of a cluster, is started again as its only one, and is joined by another, which
// comes to have them where it is asked to. R168.
func TestJoined(t *testing.T) {
	dsn := mariadb.Get(t).Database(t)
	config := fmt.Sprintf("admin: 127.0.0.1:0\nstorage: {mysql: {dsn: %q}}\nqueue_defaults: {storage: mysql}\ncluster: {listen: \"127.0.0.1:0\"}\n", dsn)
	one := harness.Start(t, config)
	c := one.Dial(t)
	c.OK(`{"op":"publish","queue":"q","body":1}`)
	for i := range bound {
		c.OK(`{"op":"queue.create","queue":"bound%d"}`, i)
		c.OK(`{"op":"queue.bind","queue":"bound%d","topic":"a.*"}`, i)
	}
	c.OK(`{"op":"publish","topic":"a.b","body":"alone"}`)
	token := func() string {
		c, err := gmq.Dial(t.Context(), one.Addr, gmq.OnlyGiven())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		token, _, err := c.JoinToken(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token()
	one.Restart() // a cluster of one without groups
	c = one.Dial(t)
	c.OK(`{"op":"publish","queue":"q","body":2}`)
	if m := c.OK(`{"op":"receive","queue":"q","ack":"auto"}`).Each("messages"); len(m) != 1 || m[0].Body() != "1" {
		t.Errorf("after a restart there is %v", m)
	}
	harness.Eventually(t, "it says where it is now", func() bool { return strings.Contains(strings.Join(one.Log(), ""), "node n1 is at") })
	two := harness.Join(t, config, token())
	d := two.Dial(t)
	harness.Eventually(t, "the second node serves the queue", func() bool {
		return d.Do(`{"op":"publish","queue":"q","body":3}`).Text("stored") == "mysql"
	})
	harness.Eventually(t, "a publish to a topic succeeds", func() bool { return d.Do(`{"op":"publish","topic":"a.b","body":"together"}`).Bool("ok") })
	if n := up(t, one); n != "1" {
		t.Errorf("gmq_mysql_up of the node that has the tables is %q", n)
	}
	if n := up(t, two); n != "" {
		t.Errorf("gmq_mysql_up of the other is %q", n)
	}
	harness.Eventually(t, "the second node may lead", func() bool {
		return c.Do(`{"op":"cluster.transfer"}`).Fields["ok"] != nil && d.Do(`{"op":"cluster.status"}`).Text("mysql") == "n2"
	})
	if m := c.OK(`{"op":"receive","queue":"q","max":1,"ack":"auto","wait":"10s"}`).Each("messages"); len(m) != 1 || m[0].Body() != "2" {
		t.Errorf("from the node that had the tables: %v", m)
	}
	for i := range bound { // whose bytes the first node had in memory, and the second did not
		m := c.OK(`{"op":"receive","queue":"bound%d","max":9,"ack":"auto"}`, i).Each("messages")
		if len(m) != 2 || m[0].Body() != `"alone"` || m[1].Body() != `"together"` {
			t.Errorf("bound%d holds %v", i, m)
		}
	}
	db := mariadb.Connect(t, dsn)
	harness.Eventually(t, "what was shared is gone", func() bool {
		n := -1
		return db.QueryRow("SELECT COUNT(*) FROM gmq_body").Scan(&n) == nil && n == 0
	})
	if n := up(t, one); n != "" {
		t.Errorf("gmq_mysql_up is still %q where the tables were", n)
	}
}

// up is what a server says of the database; "" where it says nothing.
func up(t *testing.T, s *harness.Server) string {
	t.Helper()
	r, err := http.Get("http://" + s.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "gmq_mysql_up "); ok {
			return strings.TrimSpace(n)
		}
	}
	return ""
}
