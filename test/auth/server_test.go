// Package auth checks with the real server that nobody gets what he may not have: every operation, every field that names a
// queue or a topic, every kind of user; that secrets are told to nobody; and that who abuses a server does not stop others.
package auth_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const required = "auth: {required: true}\nqueue_defaults: {storage: memory}\n"

// start starts a server that wants logins, and gives a connection of its first user.
func start(t *testing.T, more string) (*harness.Server, *harness.Conn) {
	t.Helper()
	s := harness.Start(t, required+more)
	return s, login(t, s, "admin", adminPassword(t, s))
}

// adminPassword is in the file that the first start has written.
func adminPassword(t *testing.T, s *harness.Server) string {
	t.Helper()
	file := filepath.Join(s.Data, "admin-password")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password's file: %v, %v", info.Mode(), err)
	}
	return strings.TrimSpace(string(text))
}

func login(t *testing.T, s *harness.Server, user, password string) *harness.Conn {
	t.Helper()
	c := s.Dial(t)
	if l := c.OK(`{"op":"hello","user":"%s","password":"%s"}`, user, password); l.Text("user") != user {
		t.Fatalf("logged in as %s: %s", user, l.Raw)
	}
	return c
}

// quoted is a list of texts as JSON.
func quoted(list string) string {
	var all []string
	for _, s := range strings.Fields(list) {
		all = append(all, fmt.Sprintf("%q", s))
	}
	return "[" + strings.Join(all, ",") + "]"
}

// add makes a user and logs in.
func add(t *testing.T, s *harness.Server, admin *harness.Conn, user, allow, deny string) *harness.Conn {
	t.Helper()
	admin.OK(`{"op":"user.add","user":"%s","password":"pencil-%s","allow":%s,"deny":%s}`, user, user, quoted(allow), quoted(deny))
	return login(t, s, user, "pencil-"+user)
}
