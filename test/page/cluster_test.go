package page

import (
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// trio starts three nodes of a cluster, with a queue that has a consumer.
func trio(t *testing.T) []*harness.Server {
	t.Helper()
	all := []*harness.Server{harness.Start(t, "admin: 127.0.0.1:0\n")}
	c := all[0].Dial(t)
	for range 2 {
		token := c.OK(`{"op":"cluster.token"}`).Text("token")
		all = append(all, harness.Join(t, "admin: 127.0.0.1:0\n", token))
	}
	harness.Eventually(t, "all three are members", func() bool {
		members := 0
		for _, n := range c.OK(`{"op":"cluster.status"}`).Each("nodes") {
			if n.Text("state") == "member" {
				members++
			}
		}
		return members == 3
	})
	for _, queue := range []string{"orders", "mails", "labels", "bills", "films"} { // of several groups, so that several nodes lead some
		c.OK(`{"op":"publish","queue":"%s","messages":[{"body":1},{"body":2},{"body":3}]}`, queue)
		c.OK(`{"op":"subscribe","queue":"%s","credit":2}`, queue)
	}
	return all
}

// Each node shows the same cluster, and the queues that others lead as their leaders know them; and one that is away.
func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	p := open(t, 1440, 900, false)
	for _, s := range nodes[:2] {
		p.visit(s, "")
		p.until(`document.querySelectorAll("#nodes:not([hidden]) tbody tr").length === 3`)
		p.says("#nodes td", "(this one)")
		p.says("#nodes", "goes on after the loss of any 1 node")
		for _, queue := range []string{"orders", "mails", "labels", "bills", "films"} {
			p.until(`[...document.querySelectorAll("#busiest tbody tr")].some(r => r.innerText.split(/\s+/).slice(0, 4).join(" ") === "` + queue + ` 1 2 0")`)
		}
		p.until(`document.querySelectorAll("#attention tbody tr").length === 0`)
		p.picture("cluster-overview")
		p.visit(s, "queues/orders")
		p.until(`document.querySelectorAll("#consumers tbody tr").length === 1`)
	}
	p.button("#top", "Cluster")
	p.until(`document.querySelectorAll("#groups tbody tr").length === 16 && [...document.querySelectorAll("#groups tbody tr")].every(r => !r.textContent.includes("nobody"))`)
	p.picture("cluster-light")
	narrow := open(t, 390, 844, true)
	narrow.visit(nodes[0], "cluster")
	narrow.until(`document.querySelectorAll("#groups tbody tr").length === 16`)
	if out := eval[int](narrow, `document.documentElement.scrollWidth - innerWidth`); out > 0 {
		t.Errorf("the cluster is %d pixels wider than the window", out)
	}
	narrow.picture("cluster-390-dark")

	nodes[2].Kill()
	p.says("#survives", "The loss of one more node stops the cluster")
	p.says("#nodes td", "○ away")
	p.picture("cluster-away")
	eval[bool](p, `[...document.querySelectorAll("#nodes tbody tr")].find(r => r.textContent.includes("away")).querySelectorAll("button")[1].click() === undefined`)
	p.says("dialog", "lets it in no more")
	p.button("dialog", "Go on…")
	p.until(`document.querySelector("dialog code")`)
	p.write("dialog input", eval[string](p, `document.querySelector("dialog code").textContent`))
	p.button("dialog", "Remove")
	p.notes("is being taken out", false)
	p.until(`document.querySelectorAll("#nodes tbody tr").length === 2`)
}

// A server alone has no nodes to show, and says how to have some.
func TestAlone(t *testing.T) {
	p, s := desk(t)
	p.until(`document.querySelectorAll("#busiest tbody tr").length > 3`)
	if eval[bool](p, `!document.querySelector("#nodes").hidden`) {
		t.Error("a server alone shows nodes")
	}
	p.visit(s, "cluster")
	p.says("main", "gmq cluster token")
}
