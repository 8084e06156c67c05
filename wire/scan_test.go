package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Values that are JSON by RFC 8259, and that a body may therefore be.
var goodValues = []string{
	`null`, `true`, `false`, `0`, `-0`, `1`, `-1`, `10`, `123456789012345678901234567890`,
	`0.0`, `-0.0`, `1.5`, `1.50`, `0.000000000000000000001`, `-0.1`, `1e0`, `1E0`, `1e+0`, `1e-0`, `1e00`,
	`0e1`, `0e+1`, `0E0`, `1.2e3`, `1.2E+3`, `1e999999`, `-1e-999999`, `20e1`, `123e65`,
	`""`, `" "`, `"a"`, `"abcdefg"`, `"abcdefgh"`, `"abcdefghi"`, `"abcdefghijklmnopqrstuvwxyz0123456789"`,
	`"\""`, `"\\"`, `"\/"`, `"/"`, `"\b\f\n\r\t"`, `"\\\""`, `"\\\\"`, `"abcdefg\""`, `"abcdefg\\"`,
	`"\u0000"`, `"\u001f"`, `"\u0022"`, `"\u005C"`, `"\u00e9"`, `"\uFFFF"`, `"\uabcd\uEF01"`,
	`"\ud83d\ude00"`, `"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\udc00\ud800"`, `"\ud800a"`, `"\uDBFF\uDFFF"`,
	"\"\x7f\"", "\"\u0080\"", "\"é\"", "\"€\"", "\"\U0001F600\"", "\"\uFFFD\"", "\"\uFFFF\"", "\"\U0010FFFF\"", "\"\u2028\u2029\"", "\"\uFEFF\"",
	`"null"`, `"[{\"a\":1}]"`, `"a\u0020b"`, `"// no comment"`, `"/* none */"`, `"\u0061\u30af"`,
	`[]`, `[ ]`, "[\t\r\n ]", `[1]`, `[ 1 ]`, `[1,2]`, `[1 , 2]`, `[null]`, `[[]]`, `[[],[]]`, `[[[[[]]]]]`, `[{}]`, `[{},{}]`,
	`["a",1,null,true,false,{},[]]`, `[1,null,null,null,2]`, `[""]`, `[-0]`, `[1e1]`, "[1\n,2]", `[{"a":[{"b":[]}]}]`,
	`{}`, `{ }`, "{\n}", `{"a":1}`, `{ "a" : 1 }`, `{"a":1,"b":2}`, `{"a":1 , "b":2}`, `{"a":{}}`, `{"a":[]}`,
	`{"":0}`, `{"a":"b"}`, `{"a":"b","a":"b"}`, `{"a":1,"a":2}`, `{"\u0061":1}`, `{"a\u0000b":1}`, `{"é":1}`,
	`{"a":{"b":{"c":{"d":null}}}}`, `{"a":[1,{"b":2}],"c":{"d":[]}}`, `{"a":true,"b":false,"c":null}`,
	`{"\"":1}`, `{"\\":1}`, `{"min":-1.0e+28,"max":1.0e+28}`, "{\t\"a\"\r:\n1\t}",
}

// Texts that are no JSON value.
var badValues = []string{
	``, ` `, `nul`, `nulll`, `Null`, `NULL`, `tru`, `True`, `truee`, `fals`, `False`, `undefined`, `NaN`, `Infinity`, `-Infinity`, `nil`,
	`-`, `+1`, `01`, `00`, `-01`, `-00`, `1.`, `.5`, `-.5`, `1.e1`, `1e`, `1e+`, `1e-`, `1E`, `1e1.5`, `1.5.5`, `1e1e1`, `0x1`, `0b1`, `1_000`, `1,5`,
	`--1`, `- 1`, `1 2`, `1a`, `-a`, `0e`, `0.e1`, `1.0e`, `1.0e-`, `0.3e+`, `１`, `1 000`, `2.e3`, `9.e+`, `++1`, `-1x`, `0a`, `1eE2`,
	`"`, `"a`, `"\"`, `"\\\"`, `a"`, `'a'`, `a`, `"a"b`, `"a""b"`, "\"\x00\"", "\"\x1f\"", "\"\n\"", "\"\t\"", "\"abcdefg\n\"", "\"abcdefghijk\x01lmnopqrs\"",
	`"\a"`, `"\x41"`, `"\'"`, `"\0"`, `"\u"`, `"\u1"`, `"\u12"`, `"\u123"`, `"\u123g"`, `"\u 123"`, `"\U0041"`, `"\u00G0"`, `"\ud800\u"`, `"\ud800\u1x"`, `"\`, `"\u00`, `"\é"`, "\"\\\x01\"", `"\ "`,
	`[`, `]`, `[1`, `[1,`, `[1,]`, `[,1]`, `[,]`, `[1,,2]`, `[1 2]`, `[1]]`, `[[1]`, `[1}`, `[1:2]`, `["a":1]`, `["a]`, `[1;2]`, `(1)`, `[a]`, `[*]`, `[-]`, `[1,]]`, `["",]`, `[ , ""]`, `[\u000A""]`, `[1,`, "[\v1]", "[\f1]", "[\u00a01]", "[\u20601]", `[...]`,
	`{`, `}`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a",1}`, `{"a" 1}`, `{"a"::1}`, `{:1}`, `{1:1}`, `{a:1}`, `{'a':1}`, `{"a":1 "b":2}`, `{"a":1,,"b":2}`, `{null:1}`, `{"a":}`, `{"a":1]`, `{"a":a}`, `{"a":1}}`, `{[]:1}`, `{"a":1;"b":2}`, `{"a":"b",,}`, `{"a":/**/1}`, `{"a":1}//x`, `{"a":1}#`, `{"a\`, `{"a":1,"b"}`, `{"a\x":1}`, `{,"a":1}`, `{"a";1}`, `{"a"="b"}`,
	"\uFEFF1", `// 1`, `/* */ 1`, `# 1`, `<null>`, `@`, `;`, "\x001", "\x80", "é", `[1]x`, `1 /**/`, `{}{}`, `[][]`, `{} []`, `true false`, `"a" "b"`, `::`, `"\u{41}"`, `[0x1]`, `[1e]`, `[01]`, `[+1]`, `[.1]`, `[1.]`, `[tru]`, `[nul`, `[fals`,
}

// Rules 3 and 10: a body is any JSON value and nothing else, and is left as it
// stands.
func TestBodySyntax(t *testing.T) {
	t.Logf("%d good, %d bad", len(goodValues), len(badValues))
	for _, v := range goodValues {
		for _, pad := range []string{"", " ", "\t \r"} {
			d, r := NewDecoder(0), &Request{}
			line := `{"op":"publish","queue":"q","body":` + pad + v + pad + `,"id":1}`
			if err := d.Decode([]byte(line), r); err != nil {
				t.Errorf("%q: %v", v, err)
			} else if got := string(r.Messages[0].Body); got != v {
				t.Errorf("%q became %q", v, got)
			}
		}
		if !json.Valid([]byte(v)) {
			t.Errorf("encoding/json refuses %q", v)
		}
	}
	for _, v := range badValues {
		for _, line := range []string{
			`{"op":"publish","queue":"q","body":` + v + `}`,
			`{"op":"publish","queue":"q","body":` + v + `,"id":1}`,
			`{"op":"publish","queue":"q","body":` + v,
			`{"op":"publish","queue":"q","messages":[{"body":` + v + `}]}`,
			`{"op":"publish","queue":"q","body":[1,` + v + `]}`,
		} {
			if json.Valid([]byte(line)) {
				continue // such as }{ that closes what came before
			}
			d, r := NewDecoder(0), &Request{}
			if err := d.Decode([]byte(line), r); err == nil || err.Code != CodeBadJSON {
				t.Errorf("%q: %v", line, err)
			}
		}
	}
}

// Every prefix of a line is bad_json (rule 2: an incomplete line), and never a
// panic.
func TestPrefixes(t *testing.T) {
	for _, line := range fuzzLines {
		for n := range len(line) {
			if json.Valid([]byte(line[:n])) {
				continue
			}
			if err := NewDecoder(0).Decode([]byte(line[:n]), &Request{}); err == nil || err.Code != CodeBadJSON {
				t.Fatalf("%q: %v", line[:n], err)
			}
		}
	}
}

// Rule 3: nested deeper than 64, the line's own object counted.
func TestNesting(t *testing.T) {
	nest := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	mixed := func(n int) string { return strings.Repeat(`[{"a":`, n/2) + "0" + strings.Repeat("}]", n/2) }
	for _, c := range []struct {
		line string
		want Code
	}{
		{`{"op":"publish","queue":"q","body":` + nest(60) + `}`, ""},
		{`{"op":"publish","queue":"q","body":` + nest(63) + `}`, ""},
		{`{"op":"publish","queue":"q","body":` + mixed(62) + `}`, ""},
		{`{"op":"publish","queue":"q","body":` + nest(64) + `,"id":9}`, CodeBadRequest},
		{`{"op":"publish","queue":"q","body":` + mixed(64) + `,"id":9}`, CodeBadRequest},
		{`{"op":"publish","queue":"q","messages":[{"body":` + nest(61) + `}]}`, ""},
		{`{"op":"publish","queue":"q","messages":[{"body":` + nest(62) + `}],"id":9}`, CodeBadRequest},
		{`{"op":"publish","queue":"q","body":` + nest(100000) + `,"id":9}`, CodeBadRequest},
		{`{"op":"publish","queue":"q","body":` + mixed(1000) + `,"id":9}`, CodeBadRequest},
		{`{"op":"publish","id":9,"queue":"q","body":` + strings.Repeat("[", 100000), CodeBadJSON},
		{`{"op":"publish","id":9,"queue":"q","body":` + strings.Repeat(`{"a":[`, 500) + strings.Repeat("]}", 499) + "}]}", CodeBadJSON},
		{`{"op":"publish","queue":` + nest(64) + `,"body":1,"id":9}`, CodeBadRequest},
		{`{"op":"nothing","x":` + nest(64) + `,"id":9}`, CodeBadRequest},
		{strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70), CodeBadRequest},
	} {
		r := &Request{}
		err := NewDecoder(0).Decode([]byte(c.line), r)
		if got := codeOf(err); got != c.want {
			t.Errorf("%.80s: %v, want %s", c.line, err, c.want)
		}
		if strings.Contains(c.line, `"id":9`) && string(r.ID) != "9" {
			t.Errorf("%.80s: id %q", c.line, r.ID)
		}
	}
}

func codeOf(err *Error) Code {
	if err == nil {
		return ""
	}
	return err.Code
}

// A string is read eight bytes at a time: what ends one is found at every
// place of a word.
func TestStringPlaces(t *testing.T) {
	for n := range 40 {
		for _, mid := range []string{"", `\n`, `\"`, `\u0041`, "é", "\x7f", "\x01", "\x80", `\q`, "\U0001F600"} {
			for after := range 20 {
				s := `"` + strings.Repeat("a", n) + mid + strings.Repeat("b", after) + `"`
				for _, tail := range []string{"", ",", "        ", "\x80\x80"} {
					end, seen := scanString([]byte(s+tail), 0)
					good := mid != "\x01" && mid != `\q`
					if good != (end == len(s)) || good && (mid == "\x80") != (seen&strNotUTF8 != 0) {
						t.Fatalf("%q: %d, %b", s, end, seen)
					}
				}
			}
		}
	}
}

// A long string is looked at many bytes at a time: what ends it, and what is in it, is seen at each place, whatever else there is.
func TestLongStrings(t *testing.T) {
	const long = 300
	for _, c := range []struct {
		what string
		end  func(at int) int
		seen uint8
	}{
		{"\"", func(at int) int { return at + 2 }, 0},
		{"\x1f", func(at int) int { return ^(at + 1) }, 0},
		{"\\n", nil, strEscaped},
		{"\\x", func(at int) int { return ^(at + 2) }, 0},
		{"\x7f", nil, 0},
		{"é", nil, 0},
		{"\x80", nil, strNotUTF8},
	} {
		for at := 0; at < long; at++ {
			for _, around := range []string{"x", "é"} {
				b := []byte(`"` + strings.Repeat("x", at) + c.what + strings.Repeat(around, long-at) + `"`)
				want := len(b)
				if c.end != nil {
					want = c.end(at)
				}
				if end, seen := scanString(b, 0); end != want || want > 0 && seen != c.seen {
					t.Fatalf("%q at %d: ends at %d with %b, want %d with %b", c.what, at, end, seen, want, c.seen)
				}
			}
		}
	}
}

// What the processor does many bytes at a time goes over what may be gone over, each byte at each place among others, and stops for one of the next 32
// bytes, or as there are no 32. So does what stands for it on other processors.
func TestRuns(t *testing.T) {
	plain := func(c byte) bool { return c != '"' && c != '\\' && c >= 0x20 }
	in64 := func(c byte) bool { return class[c]&inB64 != 0 }
	check := func(what string, b []byte, n int, over func(byte) bool) {
		next := b[n:min(n+32, len(b))]
		stop := len(next) < 32 || slices.ContainsFunc(next, func(c byte) bool { return !over(c) })
		if !stop || slices.ContainsFunc(b[:n], func(c byte) bool { return !over(c) }) {
			t.Fatalf("%s(%q) is %d", what, b, n)
		}
	}
	for _, at := range []int{0, leastBlock - 1, leastBlock, leastBlock + 31, leastBlock + 32, 2*leastBlock - 1, 3*leastBlock - 33, 3 * leastBlock, 3*leastBlock + 1, 4*mostBlock - 1} {
		for _, c := range []byte{'"', '\\', 0x1f, 0, 'x'} {
			b := bytes.Repeat([]byte("a"), 4*mostBlock)
			b[at] = c
			words, _ := plainWords(b)
			check("plainWords", b, words, plain)
			b[max(at-32, 0)] |= 0x80
			if words, high := plainWords(b); words > at-32 && at >= 32 && high == 0 {
				t.Fatalf("the byte at %d was not seen, before %d", at-32, words)
			}
		}
	}
	for _, around := range []string{"a", "Z", "0", "+", "/", " ", "#", "!", "]", "[", "\x7f", "\x80", "\xff"} {
		for _, long := range []int{31, 32, 63, 64, 100} {
			for at := range long {
				for c := range 256 {
					b := bytes.Repeat([]byte(around), long)
					b[at] = byte(c)
					n, high := plainRun(b)
					check("plainRun", b, n, plain)
					words, highWords := plainWords(b)
					check("plainWords", b, words, plain)
					ascii := func(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c >= 0x80 }) }
					if high == 0 && !ascii(b[:n]) || highWords == 0 && !ascii(b[:words]) || ascii(b) && high|highWords != 0 {
						t.Fatalf("%q: %b, %b", b, high, highWords)
					}
					check("base64Run", b, base64Run(b), in64)
					check("base64Words", b, base64Words(b), in64)
				}
			}
		}
	}
}

func TestUnescape(t *testing.T) {
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{``, "", true}, {`abc`, "abc", true}, {`\"\\\/\b\f\n\r\t`, "\"\\/\b\f\n\r\t", true},
		{`\u0041\u00e9\u20ac`, "Aé€", true}, {`\ud83d\ude00`, "\U0001F600", true}, {`\uD83D\uDE00x`, "\U0001F600x", true},
		{`\ud800`, "\uFFFD", false}, {`\udc00`, "\uFFFD", false}, {`\ud800x`, "\uFFFDx", false},
		{`\ud800\ud800`, "\uFFFD\uFFFD", false}, {`\ud800\u0041`, "\uFFFDA", false}, {`\ud800\n`, "\uFFFD\n", false},
		{`\ud800\\udc00`, "\uFFFD\\udc00", false}, {`\uffff`, "\uffff", true},
	} {
		got, ok := unescape(nil, []byte(c.in))
		if string(got) != c.want || ok != c.ok || pairsWhole([]byte(c.in)) != c.ok {
			t.Errorf("%s: %q, %v", c.in, got, ok)
		}
		var std string
		if err := json.Unmarshal(fmt.Appendf(nil, `"%s"`, c.in), &std); err != nil || std != string(got) {
			t.Errorf("%s: %q, encoding/json says %q, %v", c.in, got, std, err)
		}
	}
}
