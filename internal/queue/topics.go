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
	root     topicNode[T]
	n, words int
}

// topicNode is a place in the tree: behind the words that lead to it. Most have one word behind them.
type topicNode[T comparable] struct {
	word  string
	next  *topicNode[T]            // behind word; nil: none, or words has them
	words map[string]*topicNode[T] // where there are several, or were
	any   *topicNode[T]            // behind *
	here  []T                      // bound to the pattern that ends here
	rest  []T                      // bound to the pattern that goes on with >
}

// Len is how many bindings there are.
func (t *Topics[T]) Len() int { return t.n }

// Words is how many words their patterns have together: what the tree takes grows with them.
func (t *Topics[T]) Words() int { return t.words }

func words(pattern string) int { return strings.Count(pattern, ".") + 1 }

// Bind binds x to a pattern, once however often it is called.
func (t *Topics[T]) Bind(pattern string, x T) {
	n, rest := &t.root, pattern
	for more := true; more; {
		var word string
		word, rest, more = strings.Cut(rest, ".")
		switch {
		case word == ">" && !more:
			t.add(&n.rest, x, pattern)
			return
		case word == "*":
			if n.any == nil {
				n.any = &topicNode[T]{}
			}
			n = n.any
		default:
			n = n.grow(word)
		}
	}
	t.add(&n.here, x, pattern)
}

// at is the place behind a word, nil where there is none.
func (n *topicNode[T]) at(word []byte) *topicNode[T] {
	if n.next != nil {
		if n.word == string(word) {
			return n.next
		}
		return nil
	}
	return n.words[string(word)]
}

// grow is at, which makes the place where there is none.
func (n *topicNode[T]) grow(word string) *topicNode[T] {
	if next := n.at([]byte(word)); next != nil {
		return next
	}
	next := &topicNode[T]{}
	switch {
	case n.next == nil && n.words == nil:
		n.word, n.next = word, next
		return next
	case n.next != nil:
		n.words = map[string]*topicNode[T]{n.word: n.next}
		n.word, n.next = "", nil
	}
	n.words[word] = next
	return next
}

func (n *topicNode[T]) cut(word string) {
	if n.next != nil {
		n.word, n.next = "", nil
	}
	delete(n.words, word)
}

func (t *Topics[T]) add(list *[]T, x T, pattern string) {
	if !slices.Contains(*list, x) {
		*list = append(*list, x)
		t.n++
		t.words += words(pattern)
	}
}

// Unbind undoes Bind.
func (t *Topics[T]) Unbind(pattern string, x T) {
	before := t.n
	t.unbind(&t.root, pattern, x)
	if t.n < before {
		t.words -= words(pattern)
	}
}

// unbind reports whether nothing is left at n and behind it.
func (t *Topics[T]) unbind(n *topicNode[T], pattern string, x T) bool {
	word, rest, more := strings.Cut(pattern, ".")
	switch next := n.at([]byte(word)); {
	case word == ">" && !more:
		t.drop(&n.rest, x)
	case word == "*" && n.any != nil:
		if !more {
			t.drop(&n.any.here, x)
		}
		if more && t.unbind(n.any, rest, x) || n.any.empty() {
			n.any = nil
		}
	case word != "*" && next != nil:
		if !more {
			t.drop(&next.here, x)
		}
		if more && t.unbind(next, rest, x) || next.empty() {
			n.cut(word)
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
	return n.next == nil && len(n.words) == 0 && n.any == nil && len(n.here) == 0 && len(n.rest) == 0
}

// Match appends what is bound to patterns that topic matches: what is bound to several of them, several times.
func (t *Topics[T]) Match(topic []byte, into []T) []T { return t.root.match(topic, into) }

func (n *topicNode[T]) match(topic []byte, into []T) []T {
	for {
		into = append(into, n.rest...)
		word, rest, more := bytes.Cut(topic, dot)
		next := n.at(word)
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
