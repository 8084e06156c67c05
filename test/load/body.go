package load

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
)

// noise is text without a pattern, so that a part of one body is not a part of another.
var noise = func() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	chance := rand.New(rand.NewPCG(1, 1))
	text := make([]byte, 256<<10)
	for i := range text {
		text[i] = letters[chance.IntN(len(letters))]
	}
	return string(text)
}()

// Small is the size of most bodies: up to 300 bytes, each another one.
func Small(n int) int { return n * 7 % 300 }

// Large makes a log grow quickly: up to 24 KiB.
func Large(n int) int { return n * 977 % (24 << 10) }

// body is what publisher p publishes as its message n. It follows from both alone, so that a
// consumer knows every byte of it.
func (l *Ledger) body(p, n int) string {
	size := l.size(n)
	from := (p*31337 + n*8191) % (len(noise) - size)
	return fmt.Sprintf(`{"p":%d,"n":%d,"pad":"%s"}`, p, n, noise[from:from+size])
}

// identify says which message a delivered body is. What is not verbatim is a fault, and false.
func (l *Ledger) identify(body json.RawMessage, seq uint64) (p, n int, ok bool) {
	var is struct{ P, N *int }
	if err := json.Unmarshal(body, &is); err != nil || is.P == nil || is.N == nil || *is.P < 0 || *is.N < 0 {
		l.damage("seq %d was delivered with a body that was never published: %.200q", seq, body)
		return 0, 0, false
	}
	p, n = *is.P, *is.N
	if want := l.body(p, n); string(body) != want {
		at := 0
		for at < len(want) && at < len(body) && want[at] == body[at] {
			at++
		}
		l.damage("message %d/%d (seq %d) was delivered with %d bytes for %d, and differs from byte %d on: %.100q", p, n, seq, len(body), len(want), at, body[at:])
		return 0, 0, false
	}
	return p, n, true
}
