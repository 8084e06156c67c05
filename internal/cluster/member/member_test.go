package member

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gmq/gmq/wire"
)

// until waits for what other goroutines do.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(30 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it does not come to this: %s", what)
		}
	}
}

func newCluster(t *testing.T, nodes int) []*machine {
	t.Helper()
	all := []*machine{newMachine(t, nil)}
	t.Cleanup(func() {
		for _, n := range all {
			n.kill()
		}
		if t.Failed() {
			for _, n := range all {
				t.Logf("%s: %s", n.opt.Name, strings.Join(n.logs, "\n  "))
			}
		}
	})
	if err := all[0].start("", nil); err != nil {
		t.Fatal(err)
	}
	for len(all) < nodes {
		n := newMachine(t, nil)
		if err := n.start(all[0].token(t), all[0]); err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
		all[0].settled(t, len(all))
	}
	return all
}

func (n *machine) request(r *wire.Request) (map[string]any, *wire.Error) {
	b, err := n.m.Do(r, []byte(`{"ok":true`))
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := json.Unmarshal(append(b, '}'), &out); err != nil {
		n.t.Fatalf("%s: %v", b, err)
	}
	return out, nil
}

func (n *machine) token(t *testing.T) string {
	t.Helper()
	out, err := n.request(&wire.Request{Op: wire.OpClusterToken})
	if err != nil {
		t.Fatal(err)
	}
	return out["token"].(string)
}

// settled waits until as many nodes are members of all groups, somebody leads each, and no node is on its way.
func (n *machine) settled(t *testing.T, nodes int) *Report {
	t.Helper()
	var r *Report
	until(t, fmt.Sprint(nodes, " nodes are members"), func() bool {
		r = n.m.Report(context.Background())
		if len(r.Nodes) != nodes || len(r.Groups) != rigGroups {
			return false
		}
		for _, one := range r.Nodes {
			if one.State != "member" || !one.Here {
				return false
			}
		}
		for _, g := range r.Groups {
			if g.Leader == "" || len(g.Members) != nodes || len(g.Learners) > 0 {
				return false
			}
		}
		return true
	})
	return r
}

// TestGrowAndShrink: a node alone becomes three by two tokens, keeps documents wherever they are put, loses one for good, and gets another
// in its place.
func TestGrowAndShrink(t *testing.T) {
	all := newCluster(t, 1)
	one := all[0]
	if r := one.m.Report(context.Background()); one.m.Member() || len(r.Nodes) != 1 || r.Nodes[0].State != "alone" || r.Node != "n1" {
		t.Fatalf("a node alone: %+v", r)
	}
	if err := one.m.Put("before", []byte("b")); err != nil {
		t.Fatal(err)
	}
	_, refused := one.request(&wire.Request{Op: wire.OpClusterRemove, Name: []byte("n1")})
	if refused == nil || refused.Code != wire.CodeBadRequest {
		t.Errorf("the only node could be taken out: %v", refused)
	}
	for len(all) < 3 {
		n := newMachine(t, nil)
		if err := n.start(one.token(t), one); err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
		defer n.kill()
	}
	r := one.settled(t, 3)
	var names []string
	for _, n := range r.Nodes {
		names = append(names, n.Name)
	}
	if want := []string{"n1", "n2", "n3"}; !slices.Equal(names, want) {
		t.Errorf("the nodes are called %q, want %q", names, want)
	}
	for i, n := range all {
		if err := n.m.Put(fmt.Sprint("from", i), []byte("x")); err != nil {
			t.Errorf("put by node %d: %v", i, err)
		}
	}

	all[1].kill()
	if _, err := one.request(&wire.Request{Op: wire.OpClusterRemove, Name: []byte("n3")}); err == nil || err.Code != wire.CodeNoQuorum {
		t.Errorf("with one of three away another could be taken out: %v", err)
	}
	if _, err := one.request(&wire.Request{Op: wire.OpClusterRemove, Name: []byte("n7")}); err == nil || err.Code != wire.CodeNotFound {
		t.Errorf("a node that is not there could be taken out: %v", err)
	}
	if _, err := all[2].request(&wire.Request{Op: wire.OpClusterRemove, Name: []byte("n2")}); err != nil {
		t.Fatal(err)
	}
	one.settled(t, 2)
	four := newMachine(t, func(o *Options) { o.Name = "four" })
	if err := four.start(all[2].token(t), one); err != nil {
		t.Fatal(err)
	}
	defer four.kill()
	all[2].settled(t, 3)
	for _, key := range []string{"before", "from0", "from1", "from2"} {
		if four.doc(key) == "" {
			t.Errorf("the new node lacks %s", key)
		}
	}

	// Who was taken out while it was away finds out, and does not start again.
	if err := all[1].start("", nil); err != nil {
		t.Fatal(err)
	}
	<-all[1].removed
	all[1].kill()
	if err := all[1].start("", nil); err == nil || !strings.Contains(err.Error(), "taken out") {
		t.Errorf("a node that was taken out starts: %v", err)
	}
	all[1].m = nil

	// Who leads and is there goes as well.
	if _, err := four.request(&wire.Request{Op: wire.OpClusterRemove, Name: []byte("n1")}); err != nil {
		t.Fatal(err)
	}
	four.settled(t, 2)
	<-one.removed
}

func (n *machine) doc(name string) string {
	got := make(chan string, 1)
	n.shards[0].do <- func() { got <- n.shards[0].docs[name] }
	return <-got
}

// TestJoinTokens: who is let in by what.
func TestJoinTokens(t *testing.T) {
	var later atomic.Int64 // than the clock says
	one := newMachine(t, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) } })
	if err := one.start("", nil); err != nil {
		t.Fatal(err)
	}
	defer one.kill()
	token := one.token(t)
	try := func(token string, change func(*Options)) error {
		n := newMachine(t, change)
		if err := n.disk.MkdirAll("data"); err != nil {
			t.Fatal(err)
		}
		m, err := Open(n.opt)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return m.Join(ctx, token)
	}
	good, err := ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	altered := func(f func(*Token)) string {
		c := *good
		c.Secret = slices.Clone(good.Secret)
		f(&c)
		return c.String()
	}
	for _, c := range []struct {
		what, token, want string
		change            func(*Options)
	}{
		{"another secret", altered(func(t *Token) { t.Secret[3] ^= 1 }), "not one of this cluster's", nil},
		{"another authority", altered(func(t *Token) { t.Fingerprint[3] ^= 1 }), "not of the cluster", nil},
		{"half of it", token[:len(token)/2], "no join token", nil},
		{"a letter missing", token[:40] + token[41:], "no join token", nil},
		{"nobody there", altered(func(t *Token) { t.Addresses = []string{"127.0.0.1:1"} }), "refused", nil},
		{"other shards", token, "different versions", func(o *Options) { o.Groups++ }},
		{"a name that is there", token, "there is a node n1 already", func(o *Options) { o.Name = "n1" }},
		{"no name", token, "no name of a node", func(o *Options) { o.Name = "a b" }},
		{"an address for nobody", token, "to listen at", func(o *Options) { o.Advertise = "0.0.0.0:4569" }},
	} {
		if err := try(c.token, c.change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	if len(one.m.Nodes()) != 1 {
		t.Fatalf("there are %d nodes", len(one.m.Nodes()))
	}
	later.Store(int64(TokenLife))
	if err := try(token, nil); err == nil || !strings.Contains(err.Error(), "ended at") {
		t.Errorf("a token that is over: %v", err)
	}
	token = one.token(t)
	if err := try(token, nil); err != nil {
		t.Errorf("a new token: %v", err)
	}
	if err := try(token, nil); err == nil || !strings.Contains(err.Error(), "another node has joined") {
		t.Errorf("a token that another node has used: %v", err)
	}
}
