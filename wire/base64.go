package wire

import "encoding/binary"

// base64End is the place behind the string of base64 with padding whose opening quote stands at i; negative where there is
// no such string, or it has escapes. What is found needs no other look: the alphabet is plain ASCII.
func base64End(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	end := skipBase64(b, i+1)
	for k := 0; k < 2 && end < len(b) && b[end] == '='; k++ {
		end++
	}
	if end >= len(b) || b[end] != '"' || (end-i-1)%4 != 0 {
		return -1
	}
	return end + 1
}

func validBase64(s []byte) bool {
	n := len(s)
	if n%4 != 0 {
		return false
	}
	for k := 0; k < 2 && n > 0 && s[n-1] == '='; k++ {
		n--
	}
	return skipBase64(s[:n], 0) == n
}

// skipBase64 is the place of the first byte from i on that is not of the base64 alphabet, or the end.
func skipBase64(b []byte, i int) int {
	i += base64Run(b[i:])
	for i < len(b) && class[b[i]]&inB64 != 0 {
		i++
	}
	return i
}

// base64Words is base64Run (run_amd64.go) for other processors. It stops up to 31 bytes earlier.
func base64Words(b []byte) (n int) {
	for ; n+16 <= len(b); n += 16 {
		w := (*[16]byte)(b[n:])
		x0, x1 := binary.LittleEndian.Uint64(w[:]), binary.LittleEndian.Uint64(w[8:])
		if base64Bytes(x0)&base64Bytes(x1) != highs {
			break
		}
	}
	return n
}

// base64Bytes has the highest bits of the bytes of x that are of the base64 alphabet; where some of x are 0x80 and more it lacks those,
// and of the others it may have too many or too few. Each sum has the highest bit of a byte where that is not below a bound: ranges are
// what one bound lets in and the next does not. Letters are looked at as small ones, which makes nothing else one.
func base64Bytes(x uint64) uint64 {
	low := x | 0x20*ones
	letters := (low + (0x80-'a')*ones) &^ (low + (0x7f-'z')*ones)
	digits := (x + (0x80-'/')*ones) &^ (x + (0x7f-'9')*ones) // the slash stands right before them
	notPlus := (x ^ '+'*ones) + 0x7f*ones
	return (letters | digits | ^notPlus) &^ x & highs
}
