package main

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	gmq "github.com/gmq/gmq/client"
)

// TestClusterCommands: a server becomes two and one again, by the commands of README, and goes on with a directory of which the others are lost.
func TestClusterCommands(t *testing.T) {
	t.Parallel()
	one := startServer(t, "--admin", "127.0.0.1:0")
	contains(t, "alone", one.must("", "cluster", "status"), "n1    alone", "This server is alone.")
	r := one.run("", "cluster", "remove", "n1")
	equal(t, "alone", r.code, exitError)
	contains(t, "alone", r.err, "this node is alone")
	equal(t, "no token", command(t, "serve", "--join", "", "--data", t.TempDir()).Run() != nil, true)
	one.must("before\n", "pub", "orders")

	token := strings.TrimSpace(one.must("", "cluster", "token", "--ttl", "10m"))
	contains(t, "token", token, "gmqj_")
	used := startServer(t)
	used.stop()
	if out, err := command(t, "serve", "--data", used.dir, "--listen", "127.0.0.1:0", "--admin", "off", "--join", token).CombinedOutput(); err == nil || !strings.Contains(string(out), "is a server's that is no member") {
		t.Errorf("a server that is something already joins: %v, %s", err, out)
	}
	two := startServer(t, "--join", token)
	status := func() (s gmq.ClusterStatus) {
		if err := json.Unmarshal([]byte(one.must("", "cluster", "status", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	joined := func() bool {
		s := status()
		for _, n := range s.Nodes {
			if n.State != "member" || !n.Reachable {
				return false
			}
		}
		return len(s.Nodes) == 2
	}
	group := groupOf(t, one.addr, "grown")
	for grown := false; !grown || !joined(); { // each look is a process of its own, so this does not spin
		if grown = strings.Contains(one.run("x\n", "pub", "grown", "-o", "json").out, `"quorum"`); grown && len(status().Groups[group].Members) < 2 {
			t.Fatal("what one node has is said to be at a majority of two")
		}
	}
	two.await("cluster: this node, n2, has what it is to have, and counts from now on")
	contains(t, "two", one.must("", "cluster", "status"), "n1    member", "n2    member", "The loss of one more node stops the cluster.")
	equal(t, "what was there", strings.TrimSpace(two.must("", "sub", "orders", "-n", "1")), "before")
	file, restored := filepath.Join(t.TempDir(), "node.tar"), filepath.Join(t.TempDir(), "restored")
	one.must("", "backup", file, "--admin", one.admin)
	contains(t, "restored", gmqRun(t, nil, "", "restore", restored, file).out, "it is of a node of a cluster", "gmq cluster recover --data "+restored)
	equal(t, "recovered", gmqRun(t, nil, "", "cluster", "recover", "--data", restored, "--yes").code, exitOK)
	two.must("", "cluster", "transfer", "n2")
	equal(t, "unknown", one.run("", "cluster", "remove", "n7").code, exitNotFound)
	two.stop()
	two = startServerWith(t, two.dir, "127.0.0.1:0", nil, "--join", token) // it is a member, so the token counts for nothing
	for {                                                                  // of two nodes one was away, so nobody leads for a while
		r := two.run("after\n", "pub", "orders")
		if r.code == exitOK {
			break
		}
		contains(t, "after the restart", r.err, "no_quorum")
		if t.Failed() {
			return
		}
	}

	// One is lost for good, and what the other one has is made a server that is alone.
	one.signal(syscall.SIGKILL)
	one.wait()
	two.signal(syscall.SIGKILL)
	two.wait()
	for _, s := range []*daemon{one, two} { // what happens to each of the groups is for who looks for a fault
		if strings.Contains(s.log.String(), ": group ") {
			t.Errorf("an operator is told of groups:\n%s", s.log.String())
		}
	}
	check := func(dir string) (digest string) {
		r := gmqRun(t, nil, "", "journal", "check", "--data", dir)
		contains(t, "check", r.out, "ok: ", "a node of a cluster: 16 groups, digest ")
		_, digest, _ = strings.Cut(r.out, "digest ")
		return digest
	}
	equal(t, "what both hold", check(one.dir), check(two.dir))
	overwrite(t, one.dir, "before", 0, "befire")
	r = gmqRun(t, nil, "", "journal", "check", "--data", one.dir)
	equal(t, "a damaged node", r.code, exitError)
	contains(t, "a damaged node", r.out, "damaged: ")

	out, err := command(t, "cluster", "recover", "--data", two.dir).CombinedOutput()
	contains(t, "recover", string(out), "node             n2", "other nodes      n1", "groups           16", "nothing has been changed")
	equal(t, "recover", err != nil, true)
	if out, err := command(t, "cluster", "recover", "--data", two.dir, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("recover --yes: %v, %s", err, out)
	}
	two = startServerWith(t, two.dir, "127.0.0.1:0", nil)
	contains(t, "recovered", two.must("", "cluster", "status"), "alone")
	equal(t, "recovered", strings.TrimSpace(two.must("", "sub", "orders", "-n", "1")), "after")

	// A copy of a node's journal without what the node was does not start by itself.
	if matches, _ := filepath.Glob(filepath.Join(two.dir, "cluster.json*")); len(matches) != 1 {
		t.Errorf("there is %q", matches)
	}
}

// TestRefusedJoin: a server that was to join and was not let in does not start as one of its own with what is left of that, and joins with another token.
func TestRefusedJoin(t *testing.T) {
	t.Parallel()
	one := startServer(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	serve := func(args ...string) string {
		r := gmqRun(t, nil, "", append([]string{"serve", "--data", dir, "--admin", "off"}, args...)...)
		equal(t, "code", r.code, exitError)
		return r.err
	}
	token := strings.TrimSpace(one.must("", "cluster", "token"))
	contains(t, "no token", serve("--listen", "127.0.0.1:0", "--join", "nonsense"), "is no join token")
	contains(t, "a port that is taken", serve("--listen", fmt.Sprint("127.0.0.1:", port-2), "--join", token),
		fmt.Sprintf("(two ports above listen, as there is no cluster.listen): listen tcp 127.0.0.1:%d: ", port), "another one: --cluster-listen")
	contains(t, "one that was said", serve("--listen", "127.0.0.1:0", "--cluster-listen", taken.Addr().String(), "--join", token), "(cluster.listen): ")
	contains(t, "alone", serve("--listen", "127.0.0.1:0"), dir+": this server was to join a cluster and has not been let in", "--join")
	startServerWith(t, dir, "127.0.0.1:0", nil, "--join", token)
}

// groupOf is the group of a queue.
func groupOf(t *testing.T, addr, queue string) int {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var reply struct{ Group *int }
	if _, err = fmt.Fprintf(nc, "{\"op\":\"cluster.leaders\",\"queue\":%q}\n", queue); err == nil {
		err = json.NewDecoder(nc).Decode(&reply)
	}
	if err != nil || reply.Group == nil {
		t.Fatalf("the group of %s: %v", queue, err)
	}
	return *reply.Group
}

// TestPubGoesOn: pub goes on with another node when its own is lost, and nothing is there twice or missing.
func TestPubGoesOn(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	one, rest := nodes[0], nodes[1:]
	for !strings.Contains(one.run("", "pub", "q.dlq", "x", "-o", "json").out, `"quorum"`) { // which is of the same group
	}
	c := one.start("pub", "q", "-o", "json")
	fmt.Fprintln(c.in, 0)
	contains(t, "confirm", c.line(t), `"seq":1,"stored":"quorum"`)
	const more = 20_000
	half := make(chan struct{})
	go func() {
		defer c.in.Close()
		for n := 1; n <= more; n++ {
			if n == more/2 {
				close(half)
			}
			fmt.Fprintln(c.in, n)
		}
	}()
	<-half
	one.signal(syscall.SIGKILL)
	seqs := map[string]bool{}
	for range more {
		line := c.line(t)
		if seqs[line] || !strings.HasPrefix(line, `{"seq":`) || strings.Contains(line, "duplicate") {
			t.Fatalf("there is %s", line)
		}
		seqs[line] = true
	}
	if code := c.end(); code != 0 {
		t.Errorf("code %d: %s", code, c.err.String())
	}
	contains(t, "stderr", c.err.String(), "gmq: a connection to the cluster was lost; going on with another node")
	equal(t, "published", rest[0].counts("q")["published"], more+1)
	got := map[string]bool{}
	for _, body := range strings.Fields(rest[1].must("", "sub", "q", "-n", fmt.Sprint(more+1))) {
		got[body] = true
	}
	equal(t, "bodies", len(got), more+1)
}
