package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gmq/gmq/wire"
)

// A Grant allows a verb, or all, on the names that a pattern matches; or, among the denied ones, forbids it.
type Grant struct {
	Verbs   wire.Verb
	Pattern string
}

// ParseGrant reads a grant such as publish:orders.*; "*" stands for all verbs.
func ParseGrant(s string) (Grant, error) {
	verb, pattern, _ := strings.Cut(s, ":")
	g := Grant{wire.ParseVerb(verb), pattern}
	if g.Verbs == 0 || !wire.ValidGrantPattern([]byte(pattern)) {
		return Grant{}, fmt.Errorf("a grant is verb:pattern such as publish:orders.*, with one of the verbs %v or *, not %.64q", wire.AnyVerb, s)
	}
	return g, nil
}

// String is what ParseGrant reads.
func (g Grant) String() string {
	if g.Verbs == wire.AnyVerb {
		return "*:" + g.Pattern
	}
	return g.Verbs.String() + ":" + g.Pattern
}

// Grants are what somebody may do. The zero value is nothing.
type Grants struct {
	Allow, Deny []Grant
}

// A Decision is what Authorize has found, and why.
type Decision struct {
	Allowed bool
	Rule    *Grant // that decided; nil where none allows it
	Verb    wire.Verb
	Name    string
}

// Authorize decides whether one of the verbs is allowed on a name, or on everything that a pattern matches: one grant must
// allow all of it, and none deny any of it. Where nothing is said it is not allowed. It takes as long as the grants and the name
// are.
func (g *Grants) Authorize(verbs wire.Verb, name string) Decision {
	var d Decision
	for v := wire.Verb(1); v <= wire.AnyVerb && v != 0; v <<= 1 {
		if verbs&v == 0 {
			continue
		}
		if d = g.one(v, name); d.Allowed {
			return d
		}
	}
	return d
}

func (g *Grants) one(verb wire.Verb, name string) Decision {
	d := Decision{Verb: verb, Name: name}
	for i := range g.Deny {
		if r := &g.Deny[i]; r.Verbs&verb != 0 && overlaps(r.Pattern, name) {
			d.Rule = r
			return d
		}
	}
	for i := range g.Allow {
		if r := &g.Allow[i]; r.Verbs&verb != 0 && covers(r.Pattern, name) {
			d.Rule, d.Allowed = r, true
			return d
		}
	}
	return d
}

// Because says in a sentence what has led to the decision.
func (d Decision) Because() string {
	what := fmt.Sprintf("%v on %s", d.Verb, d.Name)
	if d.Name == Everything {
		what = fmt.Sprintf("%v on everything", d.Verb)
	}
	switch {
	case d.Allowed:
		return fmt.Sprintf("%s is allowed by the grant %v", what, *d.Rule)
	case d.Rule != nil:
		return fmt.Sprintf("%s is denied by %v, which beats whatever allows it", what, *d.Rule)
	}
	return fmt.Sprintf("no grant allows %s, and what is not allowed is denied", what)
}

// Everything is the pattern that matches every name.
const Everything = ">"

// covers reports whether the pattern matches each name that q, a name or a pattern itself, stands for.
func covers(pattern, q string) bool {
	for {
		word, rest, more := strings.Cut(pattern, ".")
		qWord, qRest, qMore := strings.Cut(q, ".")
		switch {
		case word == Everything && !more:
			return true
		case qWord == Everything && !qMore:
			return false // any number of words, which only > stands for
		case word != "*" && (qWord == "*" || word != qWord):
			return false
		case more != qMore:
			return false
		case !more:
			return true
		}
		pattern, q = rest, qRest
	}
}

// overlaps reports whether there can be a name that both match.
func overlaps(p, q string) bool {
	for {
		word, rest, more := strings.Cut(p, ".")
		qWord, qRest, qMore := strings.Cut(q, ".")
		switch {
		case word == Everything && !more || qWord == Everything && !qMore:
			return true
		case word != "*" && qWord != "*" && word != qWord:
			return false
		case more != qMore:
			return false
		case !more:
			return true
		}
		p, q = rest, qRest
	}
}

// with adds and takes away grants. What is there already stays where it is.
func (g Grants) with(allow, deny, revoke []Grant) Grants {
	keep := func(list, more []Grant) []Grant {
		list = slices.DeleteFunc(slices.Clone(list), func(have Grant) bool { return slices.Contains(revoke, have) })
		for _, m := range more {
			if !slices.Contains(list, m) {
				list = append(list, m)
			}
		}
		return list
	}
	return Grants{keep(g.Allow, allow), keep(g.Deny, deny)}
}

func texts(list []Grant) []string {
	all := make([]string, len(list))
	for i, g := range list {
		all[i] = g.String()
	}
	return all
}

// parseAll reads grants whose form has been checked on their way in; an error is a document that is not ours.
func parseAll[T string | []byte](list []T) ([]Grant, error) {
	var all []Grant
	for _, s := range list {
		g, err := ParseGrant(string(s))
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}
