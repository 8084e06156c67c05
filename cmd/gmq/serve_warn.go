package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/wire"
)

// exposing are the settings by which whoever reaches a port may read along, or needs to be nobody.
var exposing = []string{"listen", "tls.required", "auth.required", "admin"}

// warnStart says in the log what is weak about a server that has started: not everybody asks gmq check. The line that says
// that it is ready comes first, as ever.
func (in *instance) warnStart() {
	weak := slices.DeleteFunc(in.cfg.Weaknesses(), func(w config.Weakness) bool { return !slices.Contains(exposing, w.Key) })
	if w := openData(in.cfg.Data); w != nil {
		weak = append(weak, *w)
	}
	for _, w := range weak {
		in.log.Warn("weak setting: "+w.Text, "setting", w.Key, "mend", w.Mend)
	}
	in.warnNoAdmin()
}

// openData says what is wrong with the mode of a data directory; nil where nothing is.
func openData(dir string) *config.Weakness {
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return &config.Weakness{
		Key: "data", Text: fmt.Sprintf("others than its owner may look into %s (mode %04o)", dir, st.Mode().Perm()), Mend: "chmod 700 " + dir,
	}
}

// warnNoAdmin is for a server that wants logins and that nobody can change: users were made while it wanted none, or are gone.
func (in *instance) warnNoAdmin() {
	if !in.auth.Required() {
		return
	}
	if c := in.auth.Census(); c.Admins == 0 {
		in.log.Warn("nobody who holds admin:> has a password or a token, so users and rights can be changed by a certificate only, if at all; "+
			"start with auth: {required: false} on loopback, and give it to somebody: gmq user passwd "+auth.Admin+", gmq user grant "+auth.Admin+" --allow '*:>'", "users", c.Users, "tokens", c.Tokens)
	}
}

// chosenPassword is one that somebody has chosen for the first user, if it can be one.
func chosenPassword(text string) ([]byte, error) {
	if len(text) > wire.MaxPassword {
		return nil, fmt.Errorf("%s is %d bytes long, and a password has %d at most", envAdminPassword, len(text), wire.MaxPassword)
	}
	return []byte(text), nil
}

// warnShort is what gmq user add says of a password that is short.
func (in *instance) warnShort(text string) {
	if len(text) < shortPassword {
		in.log.Warn(fmt.Sprintf("%s has %d letters and can be guessed; give another one: gmq user passwd %s", envAdminPassword, len(text), auth.Admin))
	}
}
