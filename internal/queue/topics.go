package queue

import (
	"bytes"
	"slices"
	"strings"
)

// MaxBindings is how many patterns a queue can be bound to.
const MaxBindings = 10_000

// Topics finds what is bound to the patterns that a topic matches. Looking up costs by the topic's words, not by
// the number of patterns: they form a tree by their words.
//
// In a pattern, * stands for one word and > for one or more at the end. The zero value is empty. It is not for use
// by several goroutines at once where one of them changes it.
type Topics[T comparable] struct {
	root topicNode[T]
	n    int
}

// topicNode is a place in the tree: behind the words that lead to it.
type topicNode[T comparable] struct {
	words map[string]*topicNode[T]
	any   *topicNode[T] // behind *
	here  []T           // bound to the pattern that ends here
	rest  []T           // bound to the pattern that goes on with >
}

// Len is how many bindings there are.
func (t *Topics[T]) Len() int { return t.n }

// Bind binds x to a pattern, once however often it is called.
func (t *Topics[T]) Bind(pattern string, x T) {
	n := &t.root
	for more := true; more; {
		var word string
		word, pattern, more = strings.Cut(pattern, ".")
		switch {
		case word == ">" && !more:
			t.add(&n.rest, x)
			return
		case word == "*":
			if n.any == nil {
				n.any = &topicNode[T]{}
			}
			n = n.any
		default:
			next := n.words[word]
			if next == nil {
				next = &topicNode[T]{}
				if n.words == nil {
					n.words = map[string]*topicNode[T]{}
				}
				n.words[word] = next
			}
			n = next
		}
	}
	t.add(&n.here, x)
}

func (t *Topics[T]) add(list *[]T, x T) {
	if !slices.Contains(*list, x) {
		*list = append(*list, x)
		t.n++
	}
}

// Unbind undoes Bind.
func (t *Topics[T]) Unbind(pattern string, x T) { t.unbind(&t.root, pattern, x) }

// unbind reports whether nothing is left at n and behind it.
func (t *Topics[T]) unbind(n *topicNode[T], pattern string, x T) bool {
	word, rest, more := strings.Cut(pattern, ".")
	switch {
	case word == ">" && !more:
		t.drop(&n.rest, x)
	case word == "*" && n.any != nil:
		if !more {
			t.drop(&n.any.here, x)
		}
		if more && t.unbind(n.any, rest, x) || n.any.empty() {
			n.any = nil
		}
	case word != "*" && n.words[word] != nil:
		next := n.words[word]
		if !more {
			t.drop(&next.here, x)
		}
		if more && t.unbind(next, rest, x) || next.empty() {
			delete(n.words, word)
		}
	}
	return n.empty()
}

func (t *Topics[T]) drop(list *[]T, x T) {
	if i := slices.Index(*list, x); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
		t.n--
	}
}

func (n *topicNode[T]) empty() bool {
	return len(n.words) == 0 && n.any == nil && len(n.here) == 0 && len(n.rest) == 0
}

// Match appends what is bound to patterns that topic matches: what is bound to several of them, several times.
func (t *Topics[T]) Match(topic []byte, into []T) []T { return t.root.match(topic, into) }

func (n *topicNode[T]) match(topic []byte, into []T) []T {
	for {
		into = append(into, n.rest...)
		word, rest, more := bytes.Cut(topic, dot)
		next := n.words[string(word)]
		if n.any != nil {
			if next == nil {
				next = n.any
			} else if more {
				into = n.any.match(rest, into)
			} else {
				into = append(into, n.any.here...)
			}
		}
		if next == nil {
			return into
		}
		if !more {
			return append(into, next.here...)
		}
		n, topic = next, rest
	}
}

var dot = []byte{'.'}

// bind and unbind are a queue's own side: Bindings, sorted.
func (q *Queue) bind(pattern string) Refusal {
	i, there := slices.BinarySearch(q.Bindings, pattern)
	if there {
		return Done
	}
	if len(q.Bindings) >= MaxBindings {
		return TooManyBindings
	}
	q.Bindings = slices.Insert(q.Bindings, i, pattern)
	return Done
}

func (q *Queue) unbind(pattern string) (n int) {
	if i, there := slices.BinarySearch(q.Bindings, pattern); there {
		q.Bindings = slices.Delete(q.Bindings, i, i+1)
		n = 1
	}
	return n
}
