package member

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
)

// tokenMark is what join tokens begin with, so that a program that looks for secrets in the wrong places knows them.
const tokenMark = "gmqj_"

const (
	tokenVersion = 1
	secretBytes  = 20
	maxToken     = 2048
)

// A Token is what a node needs to join: where the cluster is, the authority by which it knows it, and a secret by which it is known itself.
//
//	version u8 | secret, 20 bytes | SHA-256 of the authority's certificate | addresses, with commas | crc32c of all before it
type Token struct {
	Addresses   []string
	Secret      []byte
	Fingerprint [sha256.Size]byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// String is the token in one word.
func (t *Token) String() string {
	b := append([]byte{tokenVersion}, t.Secret...)
	b = append(b, t.Fingerprint[:]...)
	b = append(b, strings.Join(t.Addresses, ",")...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return tokenMark + base64.RawURLEncoding.EncodeToString(b)
}

var errToken = errors.New("that is no join token, or not all of it; gmq cluster token prints one")

// ParseToken reads a token as String writes it. The error does not repeat it.
func ParseToken(text string) (*Token, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(text), tokenMark)
	if !ok || len(body) > maxToken {
		return nil, errToken
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || len(b) < 1+secretBytes+sha256.Size+4 {
		return nil, errToken
	}
	if b[0] != tokenVersion {
		return nil, errors.New("the join token is of another version than this program reads")
	}
	end := len(b) - 4
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return nil, errToken
	}
	t := &Token{Secret: b[1 : 1+secretBytes], Fingerprint: [sha256.Size]byte(b[1+secretBytes:])}
	for a := range strings.SplitSeq(string(b[1+secretBytes+sha256.Size:end]), ",") {
		if checkAddress(a) != nil {
			return nil, errToken
		}
		t.Addresses = append(t.Addresses, a)
	}
	return t, nil
}

func newSecret() []byte {
	b := make([]byte, secretBytes)
	rand.Read(b)
	return b
}
