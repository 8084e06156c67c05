package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"

	gmq "github.com/gmq/gmq/client"
)

// The variables with which a person, or a script, logs in. There is no flag for a secret: other users of the machine can
// read the arguments of a command.
const (
	envUser     = "GMQ_USER"
	envPassword = "GMQ_PASSWORD"
	envToken    = "GMQ_TOKEN"
)

// credentials are who a command is to the server; the zero value is nobody.
type credentials struct{ user, password, token string }

// credentials are those of flags and variables. A password that is missing is asked for, where there is somebody to ask.
func (g *globals) credentials() (c credentials, err error) {
	if g.user == "" {
		if g.passwordFile != "" {
			return c, usage("--%s: whose password is it? --%s says so", flagSecret, flagUser)
		}
		c.token, err = g.token()
		return c, err
	}
	c.user = g.user
	switch {
	case g.passwordFile != "":
		c.password, err = passwordFrom(g.passwordFile)
	case os.Getenv(envPassword) != "":
		c.password = os.Getenv(envPassword)
	case os.Getenv(envToken) != "":
		err = usage("no password for %s; %s says by itself who you are: leave out --%s and %s", g.user, envToken, flagUser, envUser)
	case onTerminal(os.Stdin) && onTerminal(os.Stderr):
		c.password, err = askPassword("Password for " + g.user + ": ")
		g.askedPassword = c.password
	default:
		err = usage("no password for %s: --%s, or the variable %s, has it", g.user, flagSecret, envPassword)
	}
	if err == nil && c.password == "" {
		err = fmt.Errorf("the password for %s is empty", g.user)
	}
	return c, err
}

// token is the variable's, or the context's.
func (g *globals) token() (string, error) {
	switch {
	case os.Getenv(envToken) != "":
		return strings.TrimSpace(os.Getenv(envToken)), nil // no token has a newline; many a file that it was read from has
	case g.target.TokenFile != "":
		text, err := passwordFrom(g.target.TokenFile)
		return strings.TrimSpace(text), err
	}
	return g.target.Token, nil
}

// login is how the client logs in. Whoever has credentials from elsewhere puts them into g first.
func (g *globals) login() ([]gmq.Option, error) {
	c, err := g.known()
	switch {
	case err != nil:
		return nil, err
	case c.user != "":
		return []gmq.Option{gmq.Login(c.user, c.password)}, nil
	case c.token != "":
		g.sendsToken = true
		return []gmq.Option{gmq.Token(c.token)}, nil
	}
	return nil, nil
}

// known is credentials, but nobody is asked twice.
func (g *globals) known() (credentials, error) {
	if g.askedPassword != "" {
		return credentials{user: g.user, password: g.askedPassword}, nil
	}
	return g.credentials()
}

// authorize is login for the admin address.
func (g *globals) authorize(req *http.Request) error {
	c, err := g.known()
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	} else if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return err
}

// maxPasswordFile is more than any password; a wrong path is noticed before it is read into memory.
const maxPasswordFile = 4 << 10

// passwordFrom reads a file. A newline at its end does not count. One that everybody on the machine may read is told of, and used: where
// files come with a mode of their own, as in containers, there may be nobody else.
func passwordFrom(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o007 != 0 && runtime.GOOS != "windows" {
		fmt.Fprintf(os.Stderr, "gmq: warning: others may read %s (mode %04o), which holds a secret; mend it with: chmod 600 %s\n", file, st.Mode().Perm(), file)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPasswordFile+1))
	if err == nil && len(text) > maxPasswordFile {
		err = fmt.Errorf("%s is longer than a password can be", file)
	}
	return strings.TrimRight(string(text), "\r\n"), err
}

// askPassword asks the person at the terminal; what is typed is not shown.
func askPassword(prompt string) (string, error) {
	fmt.Fprint(os.Stderr, prompt)
	text, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	return string(text), err
}

// firstLine reads a secret from standard input; missing is said where there is none.
func firstLine(r io.Reader, missing string) (string, error) {
	text, err := bufio.NewReader(io.LimitReader(r, maxPasswordFile)).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if text = strings.TrimRight(text, "\r\n"); err == nil && text == "" {
		err = usage("%s in the first line of standard input", missing)
	}
	return text, err
}
