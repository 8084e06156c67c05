package gmq

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/gmq/gmq/wire"
)

// mechanism is how a password is proved without being sent (RFC 5802, RFC 7677).
const mechanism = "SCRAM-SHA-256"

// How often a server may have the password hashed: less is too easy to guess for who gets hold of the exchange, and more
// would be a way to keep the client busy.
const minIterations, maxIterations = 4096, 2_000_000

// errServer is what a client says to a server that does not know the password either, or breaks the rules.
var errServer = errors.New("the server did not prove that it knows the password")

// A salted password is kept, so that a client that connects again has not to hash it anew.
type salted struct {
	mu         sync.Mutex // guards the following
	salt       []byte
	iterations int
	key        []byte
}

func (s *salted) of(password string, salt []byte, iterations int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key != nil && s.iterations == iterations && bytes.Equal(s.salt, salt) {
		return s.key, nil
	}
	key, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err == nil {
		s.salt, s.iterations, s.key = salt, iterations, key
	}
	return key, err
}

// A proof is the client's side of an exchange.
type proof struct {
	user, password string
	salted         *salted
	nonce, bare    string
	signature      []byte // that the server must know
}

// escapeName writes a user's name as the exchange wants it.
var escapeName = strings.NewReplacer("=", "=3D", ",", "=2C")

// first is the client's first message.
func (p *proof) first() string {
	p.nonce = rand.Text()
	p.bare = "n=" + escapeName.Replace(p.user) + ",r=" + p.nonce
	return "n,," + p.bare
}

// final is the client's answer to the server's first message.
func (p *proof) final(serverFirst string) (string, error) {
	nonce, rest, ok1 := strings.Cut(serverFirst, ",")
	salt64, rest, ok2 := strings.Cut(rest, ",")
	count, _, _ := strings.Cut(rest, ",")
	nonce, ok3 := strings.CutPrefix(nonce, "r=")
	salt64, ok4 := strings.CutPrefix(salt64, "s=")
	count, ok5 := strings.CutPrefix(count, "i=")
	salt, err := base64.StdEncoding.DecodeString(salt64)
	iterations, nerr := strconv.Atoi(count)
	if !(ok1 && ok2 && ok3 && ok4 && ok5) || err != nil || nerr != nil || len(salt) == 0 {
		return "", fmt.Errorf("%w: its first message cannot be read", errServer)
	}
	if len(nonce) <= len(p.nonce) || !strings.HasPrefix(nonce, p.nonce) {
		return "", fmt.Errorf("%w: it answers somebody else", errServer)
	}
	if iterations < minIterations || iterations > maxIterations {
		return "", fmt.Errorf("%w: it wants %d iterations, and %d to %d are taken", errServer, iterations, minIterations, maxIterations)
	}
	key, err := p.salted.of(p.password, salt, iterations)
	if err != nil {
		return "", err
	}
	clientKey := sign(key, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	final := "c=biws,r=" + nonce
	message := p.bare + "," + serverFirst + "," + final
	p.signature = sign(sign(key, "Server Key"), message)
	for i, b := range sign(storedKey[:], message) {
		clientKey[i] ^= b
	}
	return final + ",p=" + base64.StdEncoding.EncodeToString(clientKey), nil
}

// check checks the server's final message.
func (p *proof) check(serverFinal string) error {
	text, ok := strings.CutPrefix(serverFinal, "v=")
	signature, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || !hmac.Equal(signature, p.signature) {
		return errServer
	}
	return nil
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// logIn says hello with a password, which is proved and not sent.
func (l *link) logIn() (Hello, error) {
	cfg := &l.c.cfg
	p := proof{user: cfg.user, password: cfg.password, salted: &l.c.salted}
	tail := appendText(l.c.helloTail(), "mechanism", mechanism)
	h, err := l.greet(appendData(tail, p.first()))
	if err != nil {
		return h, err
	}
	answer, err := base64.StdEncoding.DecodeString(h.data)
	if err != nil {
		return h, fmt.Errorf("%w: its first message cannot be read", errServer)
	}
	final, err := p.final(string(answer))
	if err != nil {
		return h, err
	}
	if h, err = l.greet(appendData(l.c.helloTail(), final)); err != nil {
		return h, err
	}
	answer, err = base64.StdEncoding.DecodeString(h.data)
	if err == nil {
		err = p.check(string(answer))
	}
	return h, err
}

func appendData(b []byte, message string) []byte {
	b = append(b, `,"data":`...)
	return append(wire.AppendString(b, base64.StdEncoding.EncodeToString([]byte(message))), "}\n"...)
}
