package loadgen

import "time"

// A body is a string: which run, which publisher, which of its messages and when it was to be sent, in hexadecimal
// digits, and then x up to the size that was asked for.
//
//	"rrrrrrrrppppnnnnnnnnnntttttttttttt.xxxxx"
const (
	runDigits  = 8
	pubDigits  = 4
	numDigits  = 10
	timeDigits = 12

	runAt  = 1
	pubAt  = runAt + runDigits
	numAt  = pubAt + pubDigits
	timeAt = numAt + numDigits
	fillAt = timeAt + timeDigits

	// MinSize is the least size of a body, bytes: what it says and the quotes.
	MinSize = fillAt + 1
)

const hexDigits = "0123456789abcdef"

// newBody gives the body of a publisher with everything but the message's number and time.
func newBody(size int, run string, publisher int) []byte {
	b := make([]byte, size, size+len("}\n")) // which publisher.add appends
	for i := range b {
		b[i] = 'x'
	}
	b[0], b[size-1] = '"', '"'
	copy(b[runAt:], run)
	putHex(b[pubAt:numAt], uint64(publisher))
	return b
}

// stamp writes which message a body is of, and when it was to be sent, since the run's beginning.
func stamp(body []byte, n uint64, at time.Duration) {
	putHex(body[numAt:timeAt], n)
	putHex(body[timeAt:fillAt], uint64(at))
}

func putHex(b []byte, n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = hexDigits[n&15]
		n >>= 4
	}
}

// A letter is what a body says.
type letter struct {
	publisher int
	n         uint64
	at        time.Duration
}

// readBody is false for what is not a body of the run.
func readBody(body []byte, run string) (l letter, ok bool) {
	if len(body) < MinSize || body[0] != '"' || string(body[runAt:pubAt]) != run {
		return l, false
	}
	p, ok1 := getHex(body[pubAt:numAt])
	n, ok2 := getHex(body[numAt:timeAt])
	at, ok3 := getHex(body[timeAt:fillAt])
	return letter{publisher: int(p), n: n, at: time.Duration(at)}, ok1 && ok2 && ok3
}

func getHex(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		switch {
		case c-'0' <= 9:
			n = n<<4 | uint64(c-'0')
		case c-'a' <= 5:
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}
