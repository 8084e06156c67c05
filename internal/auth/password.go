package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/xdg-go/scram"
)

// Mechanism is the exchange by which a password is proved and not sent: RFC 5802 with the hash of RFC 7677.
const Mechanism = "SCRAM-SHA-256"

// Iterations is how often a password is hashed where a server is new: about 2 ms. In the exchange the client pays for it, and the
// server two HMACs. A server that has users goes on with what it began with (secretDocument).
const Iterations = 10_000

const maxIterations = 10_000_000

const saltBytes = 16

// credentials are what is kept of a password. Neither the password nor what a client needs to prove it can be found from
// them but by guessing.
type credentials struct {
	Iterations int    `json:"iterations"`
	Salt       []byte `json:"salt"`
	StoredKey  []byte `json:"stored_key"`
	ServerKey  []byte `json:"server_key"`
}

// newCredentials hashes a password. Its bytes count as they are: nothing is normalised.
func newCredentials(password []byte, iterations int) *credentials {
	c := &credentials{Iterations: iterations, Salt: make([]byte, saltBytes)}
	rand.Read(c.Salt)
	salted := c.salted(password)
	c.StoredKey, c.ServerKey = storedKey(salted), mac(salted, "Server Key")
	return c
}

func (c *credentials) salted(password []byte) []byte {
	key, err := pbkdf2.Key(sha256.New, string(password), c.Salt, c.Iterations, sha256.Size)
	if err != nil {
		panic(err) // only where the length of the key or the count of iterations cannot be, and both are ours
	}
	return key
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func storedKey(salted []byte) []byte {
	key := sha256.Sum256(mac(salted, "Client Key"))
	return key[:]
}

// matches takes as long for a wrong password as for the right one.
func (c *credentials) matches(password []byte) bool {
	return subtle.ConstantTimeCompare(storedKey(c.salted(password)), c.StoredKey) == 1
}

func (c *credentials) valid() error {
	if c.Iterations < 1 || c.Iterations > maxIterations || len(c.Salt) < 8 || len(c.Salt) > 64 || len(c.StoredKey) != sha256.Size || len(c.ServerKey) != sha256.Size {
		return fmt.Errorf("a password of %d iterations, %d bytes of salt and keys of %d and %d bytes cannot be", c.Iterations, len(c.Salt), len(c.StoredKey), len(c.ServerKey))
	}
	return nil
}

func (c *credentials) stored() scram.StoredCredentials {
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(c.Salt), Iters: c.Iterations},
		StoredKey:  c.StoredKey, ServerKey: c.ServerKey,
	}
}

// decoy makes credentials that no password matches, for a user who is not there or has no password: a guess costs the
// same, and the salt is the same each time, so that nobody learns who is there. d is the server's.
func decoy(d *secretDocument, user string) *credentials {
	c := &credentials{Iterations: d.iterations(), StoredKey: make([]byte, sha256.Size), ServerKey: mac(d.Secret, "server key of "+user)}
	c.Salt = mac(d.Secret, "salt of "+user)[:saltBytes]
	rand.Read(c.StoredKey)
	return c
}
