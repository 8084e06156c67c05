package wire

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// The functions of this file append to dst and give it back longer. They
// allocate nothing but dst, and write no white space between tokens.

const hexDigits = "0123456789abcdef"

// plainByte marks what stands in a JSON string as it is: ASCII but for control
// bytes, quote and backslash.
var plainByte = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD, so that the line is always valid.
func AppendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plainByte[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\uFFFD"...)
				start = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// appendID appends the beginning of a reply. id is as it was sent, or nil.
func appendID(dst, id []byte) []byte {
	dst = append(dst, '{')
	if len(id) > 0 {
		dst = append(dst, `"id":`...)
		dst = append(dst, id...)
		dst = append(dst, ',')
	}
	return dst
}

// AppendOK appends the beginning of a reply that tells success, without its
// closing brace: what follows begins with a comma or is the brace.
func AppendOK(dst, id []byte) []byte {
	return append(appendID(dst, id), `"ok":true`...)
}

// AppendDone appends the whole reply that tells success and nothing else.
func AppendDone(dst, id []byte) []byte {
	return append(AppendOK(dst, id), "}\n"...)
}

// AppendPublished appends the whole reply to the publish of one message.
func AppendPublished(dst, id []byte, seq uint64, stored string, duplicate bool) []byte {
	dst = AppendOK(dst, id)
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, `,"stored":"`...)
	dst = append(dst, stored...) // one of ours, which need no escapes
	dst = append(dst, '"')
	if duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	return append(dst, "}\n"...)
}

// AppendSeqs appends an array of numbers.
func AppendSeqs(dst []byte, seqs []uint64) []byte {
	dst = append(dst, '[')
	for i, seq := range seqs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, seq, 10)
	}
	return append(dst, ']')
}

// AppendError appends the whole reply that tells a failure.
func AppendError(dst, id []byte, e *Error) []byte {
	dst = append(appendID(dst, id), `"ok":false,"error":{"code":`...)
	dst = AppendString(dst, e.Code)
	dst = append(dst, `,"message":`...)
	dst = AppendString(dst, e.Message)
	dst = append(dst, `,"retryable":`...)
	dst = strconv.AppendBool(dst, e.Code.Retryable())
	if len(e.Seqs) > 0 {
		dst = append(dst, `,"seqs":`...)
		dst = AppendSeqs(dst, e.Seqs)
	}
	return append(dst, "}}\n"...)
}

// AppendTime appends the time as a string of RFC 3339 in UTC, to the
// microsecond: always six digits, which every language's parser takes.
func AppendTime(dst []byte, unixNano int64) []byte {
	const day = 24 * 60 * 60
	micros := floorDiv(unixNano, 1000)
	secs := floorDiv(micros, 1_000_000)
	days := floorDiv(secs, day)
	micro, sec := uint64(micros-secs*1_000_000), uint64(secs-days*day)

	// Days to a date, in years that begin in March and eras of 400 of them;
	// 719468 days lie between the first such year and 1970.
	z := days + 719468
	era := floorDiv(z, 146097)
	ofEra := z - era*146097
	yearOfEra := (ofEra - ofEra/1460 + ofEra/36524 - ofEra/146096) / 365
	ofYear := ofEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	m := (5*ofYear + 2) / 153
	dayOfMonth := ofYear - (153*m+2)/5 + 1
	year, month := yearOfEra+era*400, m+3
	if month > 12 {
		year, month = year+1, month-12
	}

	dst = append(dst, '"')
	dst = append2(append2(dst, uint64(year)/100), uint64(year)%100)
	dst = append2(append(dst, '-'), uint64(month))
	dst = append2(append(dst, '-'), uint64(dayOfMonth))
	dst = append2(append(dst, 'T'), sec/3600)
	dst = append2(append(dst, ':'), sec/60%60)
	dst = append2(append(dst, ':'), sec%60)
	dst = append2(append(dst, '.'), micro/10000)
	dst = append2(append2(dst, micro/100%100), micro%100)
	return append(dst, 'Z', '"')
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// append2 appends n as two digits.
func append2(dst []byte, n uint64) []byte {
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

// AppendDuration appends the duration as a string as Go writes it.
func AppendDuration(dst []byte, d time.Duration) []byte {
	dst = append(dst, '"')
	n := uint64(d)
	if d < 0 {
		dst = append(dst, '-')
		n = -n
	}
	switch {
	case n == 0:
		dst = append(dst, '0', 's')
	case n < uint64(time.Microsecond):
		dst = append(strconv.AppendUint(dst, n, 10), "ns"...)
	case n < uint64(time.Millisecond):
		dst = append(appendFraction(dst, n, uint64(time.Microsecond)), "µs"...)
	case n < uint64(time.Second):
		dst = append(appendFraction(dst, n, uint64(time.Millisecond)), "ms"...)
	default:
		if hours := n / uint64(time.Hour); hours > 0 {
			dst = append(strconv.AppendUint(dst, hours, 10), 'h')
		}
		if n >= uint64(time.Minute) {
			dst = append(strconv.AppendUint(dst, n/uint64(time.Minute)%60, 10), 'm')
		}
		dst = append(appendFraction(dst, n%uint64(time.Minute), uint64(time.Second)), 's')
	}
	return append(dst, '"')
}

// appendFraction appends n/unit, a power of ten, without noughts at the end.
func appendFraction(dst []byte, n, unit uint64) []byte {
	dst = strconv.AppendUint(dst, n/unit, 10)
	rest := n % unit
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	for rest > 0 {
		unit /= 10
		dst = append(dst, byte('0'+rest/unit))
		rest %= unit
	}
	return dst
}
