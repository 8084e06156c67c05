package wire

// What a byte may be in a name.
const (
	inWord  = 1 << iota // A-Z a-z 0-9 _ -
	inName              // the same and the dot
	inDigit             // 0-9
	inB64               // the base64 alphabet without padding
)

var class = func() (t [256]uint8) {
	for c := range t {
		digit := '0' <= c && c <= '9'
		alnum := digit || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if alnum || c == '_' || c == '-' {
			t[c] |= inWord | inName
		}
		if c == '.' {
			t[c] |= inName
		}
		if digit {
			t[c] |= inDigit
		}
		if alnum || c == '+' || c == '/' {
			t[c] |= inB64
		}
	}
	return t
}()

// all reports whether every byte of s is of class c.
func all(s []byte, c uint8) bool {
	and := c
	for _, x := range s {
		and &= class[x]
	}
	return and != 0
}

// ValidQueueName reports whether s names a queue that a client may name
// freely. The names of ephemeral queues, which begin with a dot, are not such.
func ValidQueueName(s []byte) bool {
	return len(s) >= 1 && len(s) <= MaxName && s[0] != '.' && all(s, inName)
}

// ValidEphemeralName reports whether s can be the name of an ephemeral queue.
// Deliveries from one carry it, and their ack, nack and extend give it back.
func ValidEphemeralName(s []byte) bool {
	return len(s) >= 2 && len(s) <= MaxName && s[0] == '.' && all(s, inName)
}

// ValidTopic reports whether s is a topic to publish to.
func ValidTopic(s []byte) bool { return validWords(s, false) }

// ValidPattern reports whether s is a topic or a pattern of topics: there *
// stands for one word, and > as the last word for the rest.
func ValidPattern(s []byte) bool { return validWords(s, true) }

func validWords(s []byte, pattern bool) bool {
	if len(s) == 0 || len(s) > MaxName {
		return false
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			continue
		}
		word := s[start:i]
		start = i + 1
		switch {
		case len(word) == 0:
			return false
		case pattern && len(word) == 1 && (word[0] == '*' || word[0] == '>' && i == len(s)):
		case !all(word, inWord):
			return false
		}
	}
	return true
}
