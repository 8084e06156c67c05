package mysqljournal

import (
	"strconv"
	"time"
)

// appendQuoted appends bytes as a string literal. sql_mode is the session's own, so backslashes escape.
func appendQuoted(dst, b []byte) []byte {
	dst = append(dst, '\'')
	from := 0
	for i, c := range b {
		var esc byte
		switch c {
		case '\'', '\\':
			esc = c
		case 0:
			esc = '0'
		case 0x1a:
			esc = 'Z'
		case '\n':
			esc = 'n'
		case '\r':
			esc = 'r'
		default:
			continue
		}
		dst = append(append(dst, b[from:i]...), '\\', esc)
		from = i + 1
	}
	return append(append(dst, b[from:]...), '\'')
}

// appendBinary appends bytes that may be no text.
func appendBinary(dst, b []byte) []byte { return appendQuoted(append(dst, "_binary"...), b) }

// appendText appends a text, NULL where there is none.
func appendText(dst, b []byte) []byte {
	if len(b) == 0 {
		return append(dst, "NULL"...)
	}
	return appendQuoted(dst, b)
}

// appendTime appends a time given in unix ns, rounded down to µs; NULL for 0.
func appendTime(dst []byte, ns int64) []byte {
	if ns == 0 {
		return append(dst, "NULL"...)
	}
	t := time.Unix(0, ns).UTC()
	if y := t.Year(); y < 1000 || y > 9999 { // what DATETIME has room for
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t.AppendFormat(dst, "'2006-01-02 15:04:05.000000'")
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
