package wire

import (
	"bytes"
	"encoding/base64"
	"slices"
	"testing"
)

// Each byte, at each place of the blocks that are looked at together, is in the alphabet or not whatever stands round it.
func TestSkipBase64(t *testing.T) {
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for _, around := range []byte{'+', '/', '0', '9', 'A', 'Z', 'a', 'z'} {
		for at := range 40 {
			for c := range 256 {
				b := bytes.Repeat([]byte{around}, 40)
				b[at] = byte(c)
				want := 40
				if bytes.IndexByte([]byte(alphabet), byte(c)) < 0 {
					want = at
				}
				if got := skipBase64(b, 0); got != want {
					t.Fatalf("%q: %d, want %d", b, got, want)
				}
			}
		}
	}
}

// Bytes that are none of ASCII spoil the sums of what stands before them, and hide nothing.
func TestBase64NotASCII(t *testing.T) {
	for _, spoiled := range []byte{0x80, 0xaf, 0xff} {
		for at := range 16 {
			b := bytes.Repeat([]byte("-"), 16) // none of the alphabet
			b[at] = spoiled
			if got := skipBase64(b, 0); got != 0 {
				t.Fatalf("%q: %d", b, got)
			}
			b = bytes.Repeat([]byte("Q"), 16)
			b[at] = spoiled
			if got := skipBase64(b, 0); got != at {
				t.Fatalf("%q: %d, want %d", b, got, at)
			}
		}
	}
}

func base64Line(n int) []byte {
	b := bytes.Repeat([]byte{0, 200, 31, 7, 255, 96}, n)[:n]
	line := []byte(`{"op":"publish","queue":"orders","id":17,"encoding":"base64","body":"`)
	return append(base64.StdEncoding.AppendEncode(line, b), `"}`...)
}

// A body that is no base64 is refused wherever it stands, and whatever the line before was.
func TestBase64Refused(t *testing.T) {
	const bad = "with encoding base64 body must be base64 with padding"
	d, r := NewDecoder(1<<20), &Request{}
	for n := range 70 {
		line := base64Line(n)
		if err := d.Decode(line, r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if m := &r.Messages[0]; !m.Base64 || !bytes.Equal(m.Body, line[bytes.LastIndexByte(line, ':')+1:len(line)-1]) {
			t.Fatalf("%s is %+v", line, m)
		}
		if n == 0 {
			continue
		}
		line = slices.Clone(line)
		line[len(line)-3-n] = '-'
		if err := d.Decode(line, r); err == nil || !bytes.Contains([]byte(err.Message), []byte(bad)) {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

func BenchmarkDecodeBase64(b *testing.B) {
	b.Run("100", func(b *testing.B) { benchDecode(b, base64Line(100)) })
	b.Run("16K", func(b *testing.B) { benchDecode(b, base64Line(16<<10)) })
}
