package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// matches is the meaning of patterns, word by word.
func matches(pattern, topic string) bool {
	p, t := strings.Split(pattern, "."), strings.Split(topic, ".")
	for i, word := range p {
		switch {
		case word == ">" && i == len(p)-1:
			return len(t) > i
		case i >= len(t) || word != "*" && word != t[i]:
			return false
		}
	}
	return len(p) == len(t)
}

func TestTopicsAgreeWithTheMeaningOfPatterns(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	random := func(wild bool) string {
		alphabet := []string{"a", "b", "c"}
		if wild {
			alphabet = append(alphabet, "*", "*")
		}
		var s []string
		for range 1 + rng.IntN(4) {
			s = append(s, alphabet[rng.IntN(len(alphabet))])
		}
		if wild && rng.IntN(4) == 0 {
			s = append(s, ">")
		}
		return strings.Join(s, ".")
	}
	type binding struct {
		pattern string
		x       int
	}
	var topics Topics[int]
	bound := map[binding]bool{}
	for range 6_000 {
		b := binding{random(true), rng.IntN(20)}
		switch rng.IntN(3) {
		case 0:
			topics.Bind(b.pattern, b.x)
			bound[b] = true
		case 1:
			topics.Unbind(b.pattern, b.x)
			delete(bound, b)
		default:
			topic := random(false)
			var want []int
			for b := range bound {
				if matches(b.pattern, topic) {
					want = append(want, b.x)
				}
			}
			got := topics.Match([]byte(topic), nil)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("%s: %v, want %v", topic, got, want)
			}
		}
		count := 0
		for b := range bound {
			count += words(b.pattern)
		}
		if topics.Words() != count {
			t.Fatalf("%d words, want %d", topics.Words(), count)
		}
		if topics.Len() != len(bound) {
			t.Fatalf("%d bindings, want %d", topics.Len(), len(bound))
		}
	}
	for b := range bound {
		topics.Unbind(b.pattern, b.x)
	}
	if !topics.root.empty() || topics.Words() != 0 {
		t.Error("unbinding leaves something behind")
	}
}

// Looking up costs by the topic and what it matches: the places visited do not grow with the number of patterns.
func TestTopicsVisitFew(t *testing.T) {
	visited := func(patterns int) int {
		var topics Topics[int]
		for i := range patterns {
			topics.Bind(fmt.Sprintf("files.%d.*", i), i)
		}
		for i := range 10 {
			topics.Bind("files.x.pdf", patterns+i)
		}
		n := 0
		for node, rest := &topics.root, "files.x.pdf"; node != nil; n++ {
			word, after, _ := strings.Cut(rest, ".")
			if node.any != nil {
				n++
			}
			node, rest = node.at([]byte(word)), after
		}
		if got := topics.Match([]byte("files.x.pdf"), nil); len(got) != 10 {
			t.Errorf("%d matches of %d patterns, want 10", len(got), patterns)
		}
		return n
	}
	if few, many := visited(10), visited(10_000); many != few {
		t.Errorf("a topic visits %d places among 10,000 patterns, %d among ten", many, few)
	}
}

func BenchmarkTopics(b *testing.B) {
	for _, patterns := range []int{10, 10_000} {
		b.Run(fmt.Sprint("patterns=", patterns), func(b *testing.B) {
			var topics Topics[int]
			for i := range patterns - 10 {
				topics.Bind(fmt.Sprintf("files.%d.*", i), i)
			}
			for i := range 10 {
				topics.Bind("files.x.*", patterns+i)
			}
			topic, into := []byte("files.x.pdf"), []int(nil)
			for b.Loop() {
				into = topics.Match(topic, into[:0])
			}
		})
	}
}
