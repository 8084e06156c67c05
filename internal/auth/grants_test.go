package auth

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gmq/gmq/wire"
)

// names are all names of one to three words of an alphabet that says everything there is to say.
func names() (all []string) {
	words := []string{"a", "b", ""}
	for _, x := range words {
		all = append(all, x)
		for _, y := range words {
			all = append(all, x+"."+y)
			for _, z := range words {
				all = append(all, x+"."+y+"."+z)
			}
		}
	}
	return all
}

// matches is what a pattern means, as one would explain it.
func matches(pattern, name string) bool {
	p, n := strings.Split(pattern, "."), strings.Split(name, ".")
	for i, w := range p {
		if w == ">" && i == len(p)-1 {
			return len(n) > i
		}
		if i >= len(n) || w != "*" && w != n[i] {
			return false
		}
	}
	return len(p) == len(n)
}

func patterns() (all []string) {
	for _, x := range []string{"a", "b", "*", ">"} {
		all = append(all, x)
		if x == ">" {
			continue
		}
		for _, y := range []string{"a", "", "*", ">"} {
			all = append(all, x+"."+y)
			if y == ">" {
				continue
			}
			for _, z := range []string{"b", "*", ">"} {
				all = append(all, x+"."+y+"."+z)
			}
		}
	}
	return all
}

// A pattern covers another one where it matches every name that the other one matches, and overlaps it where there is one that
// both match.
func TestPatterns(t *testing.T) {
	// Longer names than any pattern has words stand for what > may mean.
	all := names()
	for _, n := range names() {
		all = append(all, n+".a.a", n+".c")
	}
	all = append(all, "c")
	tried := 0
	for _, p := range patterns() {
		if !wire.ValidGrantPattern([]byte(p)) {
			t.Errorf("%q is no pattern", p)
		}
		for _, n := range names() {
			if n == "" {
				continue
			}
			if covers(p, n) != matches(p, n) || overlaps(p, n) != matches(p, n) {
				t.Errorf("%s on the name %s: covers %v, overlaps %v, should be %v", p, n, covers(p, n), overlaps(p, n), matches(p, n))
			}
		}
		for _, q := range patterns() {
			every, any := true, false
			for _, n := range all {
				if matches(q, n) {
					every, any = every && matches(p, n), any || matches(p, n)
				}
			}
			if covers(p, q) != every || overlaps(p, q) != any || overlaps(q, p) != any {
				t.Errorf("%s and %s: covers %v, overlaps %v, should be %v and %v", p, q, covers(p, q), overlaps(p, q), every, any)
			}
			tried++
		}
	}
	if tried < 500 {
		t.Errorf("only %d pairs were tried", tried)
	}
}

func TestValidGrantPattern(t *testing.T) {
	for p, want := range map[string]bool{
		"a": true, "*": true, ">": true, "a.*": true, "a.>": true, "*.b.>": true, "a..b": true, "a.": true, "A-_9": true,
		"": false, ".a": false, "a.>.b": false, ">.a": false, "a*": false, "**": false, "a b": false, "a/b": false, strings.Repeat("a", 256): false,
	} {
		if wire.ValidGrantPattern([]byte(p)) != want {
			t.Errorf("%q: should be %v", p, want)
		}
	}
}

func grants(t testing.TB, allow, deny string) *Grants {
	t.Helper()
	g, err := parseGrants(strings.Fields(allow), strings.Fields(deny))
	if err != nil {
		t.Fatal(err)
	}
	return &g
}

func TestAuthorize(t *testing.T) {
	g := grants(t, "publish:orders.* consume:orders.> peek:> *:own", "publish:orders.secret consume:orders.eu.*")
	for _, c := range []struct {
		verb, name, because string
	}{
		{"publish", "orders.eu", "publish on orders.eu is allowed by the grant publish:orders.*"},
		{"publish", "orders.secret", "publish on orders.secret is denied by publish:orders.secret, which beats whatever allows it"},
		{"publish", "orders", "no grant allows publish on orders, and what is not allowed is denied"},
		{"publish", "orders.*", "publish on orders.* is denied by publish:orders.secret, which beats whatever allows it"},
		{"consume", "orders.eu", "consume on orders.eu is allowed by the grant consume:orders.>"},
		{"consume", "orders.us.*", "consume on orders.us.* is allowed by the grant consume:orders.>"},
		{"consume", "orders.>", "consume on orders.> is denied by consume:orders.eu.*, which beats whatever allows it"},
		{"peek", ">", "peek on everything is allowed by the grant peek:>"},
		{"admin", "own", "admin on own is allowed by the grant *:own"},
		{"admin", ">", "no grant allows admin on everything, and what is not allowed is denied"},
		{"manage", "*", "no grant allows manage on *, and what is not allowed is denied"},
	} {
		d := g.Authorize(wire.ParseVerb(c.verb), c.name)
		if d.Because() != c.because || d.Allowed != strings.Contains(c.because, "is allowed") {
			t.Errorf("%s %s: %v, %s", c.verb, c.name, d.Allowed, d.Because())
		}
	}
	if !g.Authorize(wire.VerbManage|wire.VerbPeek, "x").Allowed || g.Authorize(wire.VerbManage|wire.VerbAdmin, "x").Allowed {
		t.Error("one of several verbs is enough, and one of them is needed")
	}
	if (&Grants{}).Authorize(wire.AnyVerb, "x").Allowed || g.Authorize(0, "own").Allowed {
		t.Error("what nobody allows is allowed")
	}
}

// What takes long is not the pattern: a hundred times the words take about a hundred times the steps, not their square.
func TestMatchingIsLinear(t *testing.T) {
	long := strings.Repeat("a.", 126) + "b"
	pattern := strings.Repeat("*.", 126) + "c"
	if n := testing.AllocsPerRun(100, func() { covers(pattern, long); overlaps(pattern, long) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if covers(pattern, long) || overlaps(pattern, long) {
		t.Error("they match")
	}
}

func TestGrantsWith(t *testing.T) {
	g := grants(t, "publish:a consume:a", "peek:a")
	more := grants(t, "publish:b publish:a", "consume:a")
	now := g.with(more.Allow, more.Deny, grants(t, "consume:a peek:a", "").Allow)
	if a, d := strings.Join(texts(now.Allow), " "), strings.Join(texts(now.Deny), " "); a != "publish:a publish:b" || d != "consume:a" {
		t.Errorf("allow %s, deny %s", a, d)
	}
	if len(g.Allow) != 2 || len(g.Deny) != 1 {
		t.Error("what was there before was changed")
	}
}

// FuzzAuthorize: whatever the grants and the name, a denial is never beaten, and nothing is allowed that no grant matches.
func FuzzAuthorize(f *testing.F) {
	f.Add("a.*", "a.b", "a.b")
	f.Add(">", "*.>", "a.b.c")
	f.Add("a..", "a.>", "a..")
	f.Fuzz(func(t *testing.T, allow, deny, name string) {
		if !wire.ValidGrantPattern([]byte(allow)) || !wire.ValidGrantPattern([]byte(deny)) || !wire.ValidQueueName([]byte(name)) {
			return
		}
		g := Grants{Allow: []Grant{{wire.VerbPublish, allow}}, Deny: []Grant{{wire.VerbPublish, deny}}}
		want := matches(allow, name) && !matches(deny, name)
		if d := g.Authorize(wire.VerbPublish, name); d.Allowed != want {
			t.Errorf("%s, but %s, on %s: %v", allow, deny, name, d.Allowed)
		}
	})
}

func BenchmarkAuthorize(b *testing.B) {
	g := &Grants{}
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		g.Allow = append(g.Allow, Grant{wire.VerbPublish, strings.Repeat("x.", r.IntN(4)) + "y"})
	}
	b.ReportAllocs()
	for b.Loop() {
		g.Authorize(wire.VerbPublish, "orders.eu.paris")
	}
}
