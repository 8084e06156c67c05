package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	gmq "github.com/gmq/gmq/client"
)

// TestPlacedNodes: two servers with one replica of each queue have half of the queues each, and either serves all. A server can be made of each of them
// with its part.
func TestPlacedNodes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "gmq.yaml")
	if err := os.WriteFile(file, []byte("cluster: {replicas: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	one := startServerWith(t, t.TempDir(), "127.0.0.1:0", []string{"GMQ_LOG_LEVEL=debug"}, "--config", file) // which tells what becomes of each group
	var queues []string
	for i := range 24 {
		queues = append(queues, fmt.Sprint("q", i))
		one.must(fmt.Sprintln("m", i), "pub", queues[i])
	}
	two := startServer(t, "--config", file, "--join", strings.TrimSpace(one.must("", "cluster", "token")))
	var s gmq.ClusterStatus
	spread := func() bool {
		s = gmq.ClusterStatus{}
		if err := json.Unmarshal([]byte(two.must("", "cluster", "status", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		has := map[string]int{}
		for _, g := range s.Groups {
			if len(g.Members) != 1 || g.Leader != g.Members[0] {
				return false
			}
			has[g.Leader]++
		}
		return has["n1"] == 8 && has["n2"] == 8 && s.Nodes[0].State == "member" && s.Nodes[1].State == "member"
	}
	for !spread() { // each look is a process of its own, so this does not spin
	}
	equal(t, "replicas", s.Replicas, 1)
	for i, q := range queues[:12] {
		equal(t, q, strings.TrimSpace(two.must("", "sub", q, "-n", "1")), fmt.Sprint("m ", i))
		one.must("another\n", "pub", q)
	}
	forgets := map[string]bool{}
	for _, g := range s.Groups {
		if g.Leader == "n2" && g.Group != 0 {
			forgets[fmt.Sprintf("cluster: group %d: this node is no member any more, and has forgotten what it had", g.Group)] = true
		}
	}
	for len(forgets) > 0 {
		l, ok := <-one.lines
		if !ok {
			t.Fatalf("the server ended and never said %v", forgets)
		}
		delete(forgets, l.Msg)
	}
	left := map[string]bool{}
	for _, d := range []*daemon{one, two} {
		d.signal(syscall.SIGKILL)
		d.wait()
	}
	for _, d := range []*daemon{one, two} {
		out, err := command(t, "cluster", "recover", "--data", d.dir, "--yes").CombinedOutput()
		if err == nil {
			t.Fatalf("a node that lacks groups is made a server without a word: %s", out)
		}
		contains(t, "recover", string(out), "groups that it lacks", "--incomplete")
		if out, err := command(t, "cluster", "recover", "--data", d.dir, "--yes", "--incomplete").CombinedOutput(); err != nil {
			t.Fatalf("recover --incomplete: %v, %s", err, out)
		}
		alone := startServerWith(t, d.dir, "127.0.0.1:0", nil)
		for _, q := range queues {
			left[q] = left[q] || strings.Contains(alone.must("", "queue", "ls"), q+" ")
		}
	}
	for _, q := range queues {
		if !left[q] {
			t.Errorf("queue %s is at neither of them", q)
		}
	}
}
