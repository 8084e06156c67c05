package loadgen

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

const (
	linesFirst = 4 << 10 // bytes of a connection's first buffer
	linesBusy  = 256 << 10
	linesMax   = 2 << 30 // no line of the server is longer
)

// lines reads whole lines, all that have come at once. Its buffer grows with what comes.
type lines struct {
	r          io.Reader
	buf        []byte
	start, end int // of what has been read and not been given
}

var errLongLine = errors.New("the server sent a line without an end")

// next gives one line or several, each with its end. They are valid until the next call.
func (l *lines) next() ([]byte, error) {
	seen := l.start
	for {
		if i := lastEnd(l.buf[seen:l.end]); i >= 0 {
			chunk := l.buf[l.start : seen+i+1]
			l.start = seen + i + 1
			return chunk, nil
		}
		seen = l.end
		if l.start > 0 {
			copy(l.buf, l.buf[l.start:l.end])
			seen, l.end, l.start = seen-l.start, l.end-l.start, 0
		}
		if l.end == len(l.buf) {
			if len(l.buf) >= linesMax {
				return nil, errLongLine
			}
			l.buf = append(make([]byte, 0, max(linesFirst, 2*len(l.buf))), l.buf...)
			l.buf = l.buf[:cap(l.buf)]
		}
		n, err := l.r.Read(l.buf[l.end:])
		l.end += n
		if n == len(l.buf)-(l.end-n) && len(l.buf) < linesBusy { // it was filled: more is to come
			l.buf = append(make([]byte, 0, 4*len(l.buf)), l.buf...)
			l.buf = l.buf[:cap(l.buf)]
		}
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// shortLine is about what most lines have, bytes.
const shortLine = 512

// lastEnd is where the last line of b ends; -1 where none does. Looking forward is many times as fast as looking
// backward, so only what is likely to be found at once is looked for from the end.
func lastEnd(b []byte) int {
	near := max(0, len(b)-shortLine)
	if i := bytes.LastIndexByte(b[near:], '\n'); i >= 0 {
		return near + i
	}
	last := -1
	for i := bytes.IndexByte(b[:near], '\n'); i >= 0; i = bytes.IndexByte(b[last+1:near], '\n') {
		last += 1 + i
	}
	return last
}

// cutLine gives the first line of a chunk, without its end, and what follows.
func cutLine(chunk []byte) (line, rest []byte) {
	i := bytes.IndexByte(chunk, '\n')
	return chunk[:i], chunk[i+1:]
}

// number reads the digits at the beginning of b.
func number(b []byte) (n uint64, rest []byte, ok bool) {
	i := 0
	for i < len(b) && b[i]-'0' <= 9 && i < 19 {
		n = n*10 + uint64(b[i]-'0')
		i++
	}
	return n, b[i:], i > 0
}

// after gives what follows the first mark in b.
func after(b []byte, mark string) (rest []byte, ok bool) {
	_, rest, ok = bytes.Cut(b, []byte(mark))
	return rest, ok
}

func appendNumber(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }
