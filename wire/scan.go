package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// The functions of this file know JSON (RFC 8259) and nothing else. They take
// the line and a place in it and give the place behind what they read; where
// the syntax is broken at place p they give ^p, which is negative.

// What scanString saw in a string.
const (
	strEscaped uint8 = 1 << iota // it holds escapes
	strNotUTF8                   // it is not UTF-8
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// space skips white space.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// specials marks, by their highest bits, the quotes, backslashes and control
// bytes among the eight of x. Subtractions borrow only above a byte that is
// itself a hit, so the lowest mark is exact; bytes of 0x80 and more are never
// marked. With their second bit turned over, the quote is 0x20 and control bytes
// remain what they are: one subtraction finds both.
func specials(x uint64) uint64 {
	return (((x ^ 0x02*ones) - 0x21*ones) | ((x ^ 0x5c*ones) - ones)) &^ x & highs
}

// scanString reads the string whose opening quote stands at i.
func scanString(b []byte, i int) (int, uint8) {
	i++
	start := i
	var high uint64
	var seen uint8
	for {
		// Eight bytes at a time up to the next special one, and more where many follow.
		for run := i; i+8 <= len(b); {
			x := binary.LittleEndian.Uint64(b[i:])
			high |= x & highs
			if hit := specials(x); hit != 0 {
				i += bits.TrailingZeros64(hit) >> 3
				break
			}
			if i += 8; i == run+32 {
				n, more := plainRun(b[i:])
				i += n
				high |= more
			}
		}
		if i >= len(b) {
			return ^i, seen
		}
		switch c := b[i]; {
		case c == '"':
			// high also knows of bytes behind the quote; a doubt costs a look.
			if high != 0 && !utf8.Valid(b[start:i]) {
				seen |= strNotUTF8
			}
			return i + 1, seen
		case c == '\\':
			seen |= strEscaped
			if i = scanEscape(b, i); i < 0 {
				return i, seen
			}
		case c < 0x20:
			return ^i, seen
		default: // in the last seven bytes of the line
			high |= uint64(c & 0x80)
			i++
		}
	}
}

// plainWords is plainRun (run_amd64.go) for other processors. It stops up to 31 bytes earlier.
func plainWords(b []byte) (n int, high uint64) {
	for ; n+32 <= len(b); n += 32 {
		if n == leastBlock {
			more, h := plainBlocks(b[n:])
			return n + more, high | h
		}
		w := (*[32]byte)(b[n:])
		x0, x1 := binary.LittleEndian.Uint64(w[:]), binary.LittleEndian.Uint64(w[8:])
		x2, x3 := binary.LittleEndian.Uint64(w[16:]), binary.LittleEndian.Uint64(w[24:])
		if (specials(x0)|specials(x1))|(specials(x2)|specials(x3)) != 0 {
			break
		}
		high |= (x0 | x1 | x2 | x3) & highs
	}
	return n, high
}

const leastBlock, mostBlock = 512, 8 << 10

// plainBlocks does the same where much is likely to follow. Quotes and backslashes are looked for in blocks by what the standard library has for
// that; the blocks grow, so that no byte is looked at often where there are many.
func plainBlocks(b []byte) (n int, high uint64) {
	for size := leastBlock; n+32 <= len(b); size = min(2*size, mostBlock) {
		block := b[n:min(n+size, len(b))]
		if q := bytes.IndexByte(block, '"'); q >= 0 {
			block = block[:q]
		}
		if s := bytes.IndexByte(block, '\\'); s >= 0 {
			block = block[:s]
		}
		more, h := skipText(block)
		high |= h
		if n += more; more < size {
			break
		}
	}
	return n, high
}

// skipText steps to within 32 bytes before the first control byte of b, or the end; high is as of plainRun.
func skipText(b []byte) (at int, high uint64) {
	for ; at+32 <= len(b); at += 32 {
		w := (*[32]byte)(b[at:])
		x0, x1 := binary.LittleEndian.Uint64(w[:]), binary.LittleEndian.Uint64(w[8:])
		x2, x3 := binary.LittleEndian.Uint64(w[16:]), binary.LittleEndian.Uint64(w[24:])
		any := x0 | x1 | x2 | x3
		less := (x0 - 0x20*ones) | (x1 - 0x20*ones) | (x2 - 0x20*ones) | (x3 - 0x20*ones)
		if (less|any)&highs == 0 {
			continue // neither control bytes nor any of 0x80 and more
		}
		if ((x0-0x20*ones)&^x0|(x1-0x20*ones)&^x1|(x2-0x20*ones)&^x2|(x3-0x20*ones)&^x3)&highs != 0 {
			break
		}
		high |= any & highs
	}
	return at, high
}

// scanEscape reads the escape whose backslash stands at i.
func scanEscape(b []byte, i int) int {
	i++
	if i >= len(b) {
		return ^i
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		i++
		for end := i + 4; i < end; i++ {
			if i >= len(b) || unhex(b[i]) < 0 {
				return ^i
			}
		}
		return i
	}
	return ^i
}

// unhex is the value of a hexadecimal digit, or negative.
func unhex(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c - 'a' + 10)
	case 'A' <= c && c <= 'F':
		return rune(c - 'A' + 10)
	}
	return -1
}

// digits skips at least one digit.
func digits(b []byte, i int) int {
	start := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	if i == start {
		return ^i
	}
	return i
}

// scanNumber reads the number that begins at i.
func scanNumber(b []byte, i int) int {
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i = digits(b, i); i < 0 {
		return i
	}
	if i < len(b) && b[i] == '.' {
		if i = digits(b, i+1); i < 0 {
			return i
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return digits(b, i)
	}
	return i
}

// scanWord reads the literal w at i.
func scanWord(b []byte, i int, w string) int {
	for k := range len(w) {
		if i+k >= len(b) || b[i+k] != w[k] {
			return ^(i + k)
		}
	}
	return i + len(w)
}

// open steps over the opening bracket at i to the first element, or, with more
// false, behind the closing bracket.
func open(b []byte, i int, closing byte) (at int, more bool) {
	i = space(b, i+1)
	if i < len(b) && b[i] == closing {
		return i + 1, false
	}
	return i, true
}

// next steps from behind an element to the next one, or, with more false,
// behind the closing bracket.
func next(b []byte, i int, closing byte) (at int, more bool) {
	if i < len(b) && b[i] == ',' && i+1 < len(b) && b[i+1] > ' ' {
		return i + 1, true
	}
	i = space(b, i)
	switch {
	case i >= len(b):
		return ^i, false
	case b[i] == ',':
		return space(b, i+1), true
	case b[i] == closing:
		return i + 1, false
	}
	return ^i, false
}

// scanName reads a member's name at i and its colon; at is the first byte of
// the value, and is inside the line.
func scanName(b []byte, i int) (end, at int, seen uint8) {
	if i >= len(b) || b[i] != '"' {
		return 0, ^i, 0
	}
	if i+10 < len(b) { // most names fit into one word, with their colon right behind
		x := binary.LittleEndian.Uint64(b[i+1:])
		end = i + 1 + bits.TrailingZeros64(specials(x)|x&highs)>>3
		if b[end] == '"' && b[end+1] == ':' && end+2 < len(b) && b[end+2] > ' ' {
			return end + 1, end + 2, 0
		}
	}
	end, seen = scanString(b, i)
	if end < 0 {
		return 0, end, seen
	}
	at = space(b, end)
	if at >= len(b) || b[at] != ':' {
		return 0, ^at, seen
	}
	at = space(b, at+1)
	if at >= len(b) {
		return 0, ^at, seen
	}
	return end, at, seen
}

// scanScalar reads a value that is neither object nor array.
func scanScalar(b []byte, i int) (int, uint8) {
	if i >= len(b) {
		return ^i, 0
	}
	switch b[i] {
	case '"':
		return scanString(b, i)
	case 't':
		return scanWord(b, i, "true"), 0
	case 'f':
		return scanWord(b, i, "false"), 0
	case 'n':
		return scanWord(b, i, "null"), 0
	}
	return scanNumber(b, i), 0
}

// scanValue reads any value. deepest is how many levels of objects and arrays
// it has; there is no limit to them here, and each costs one bit.
func scanValue(b []byte, i int) (end, deepest int, seen uint8) {
	var (
		kinds  uint64   // of the open brackets, the innermost lowest; 1 is an object
		outer  []uint64 // kinds of each full 64 levels further out
		depth  int
		s      uint8
		object bool // the innermost bracket is an object's
		more   bool
	)
	for {
		if i < len(b) && (b[i] == '{' || b[i] == '[') {
			if depth > 0 && depth&63 == 0 {
				outer = append(outer, kinds)
			}
			depth++
			deepest = max(deepest, depth)
			kinds <<= 1
			if object = b[i] == '{'; object {
				kinds |= 1
			}
			i, more = open(b, i, b[i]+2) // in ASCII both brackets close two further
		} else {
			if i < len(b) && b[i] == '"' {
				i, s = scanString(b, i)
				seen |= s
			} else {
				i, _ = scanScalar(b, i)
			}
			if i < 0 {
				return i, deepest, seen
			}
			if depth == 0 {
				return i, deepest, seen
			}
			i, more = next(b, i, closing(object))
		}
		for !more {
			if i < 0 {
				return i, deepest, seen
			}
			depth--
			if depth == 0 {
				return i, deepest, seen
			}
			kinds >>= 1
			if depth&63 == 0 {
				kinds, outer = outer[len(outer)-1], outer[:len(outer)-1]
			}
			object = kinds&1 != 0
			i, more = next(b, i, closing(object))
		}
		if object {
			if _, i, s = scanName(b, i); i < 0 {
				return i, deepest, seen
			}
			seen |= s
		}
	}
}

func closing(object bool) byte {
	if object {
		return '}'
	}
	return ']'
}

// hexRune reads four hexadecimal digits that were checked before.
func hexRune(s []byte) rune {
	return unhex(s[0])<<12 | unhex(s[1])<<8 | unhex(s[2])<<4 | unhex(s[3])
}

// unescape appends the text of s, the inside of a string that scanString
// passed. It reports false where half a surrogate pair stands alone: no text
// is meant by that, and two names could become one.
func unescape(dst, s []byte) ([]byte, bool) {
	ok := true
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			continue
		}
		i++
		switch s[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			var r rune
			var good bool
			r, i, good = unicodeEscape(s, i)
			ok = ok && good
			dst = utf8.AppendRune(dst, r)
		default: // " \ /
			dst = append(dst, s[i])
		}
	}
	return dst, ok
}

// unicodeEscape reads the rune of the \u, or pair of them, whose u stands at
// i; last is the place of its last digit.
func unicodeEscape(s []byte, i int) (r rune, last int, ok bool) {
	r, last = hexRune(s[i+1:]), i+4
	if r < 0xd800 || r > 0xdfff {
		return r, last, true
	}
	if r < 0xdc00 && last+6 < len(s) && s[last+1] == '\\' && s[last+2] == 'u' {
		if low := hexRune(s[last+3:]); low >= 0xdc00 && low <= 0xdfff {
			return (r-0xd800)<<10 | (low - 0xdc00) + 0x10000, last + 6, true
		}
	}
	return utf8.RuneError, last, false
}

// pairsWhole reports whether s, the inside of a string that scanString passed,
// holds no half of a surrogate pair.
func pairsWhole(s []byte) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		i++
		if s[i] == 'u' {
			var ok bool
			if _, i, ok = unicodeEscape(s, i); !ok {
				return false
			}
		}
	}
	return true
}
