package mariadb

import (
	"os"
	"testing"
)

// Small is another server, whose tables have room for some 40 MB together.
func Small(t testing.TB) *Server {
	t.Helper()
	dir, err := os.MkdirTemp(place(), "gmq-mariadb-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := create(dir, roomFor("48M")...)
	t.Cleanup(func() {
		if s != nil {
			s.Kill()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func roomFor(size string) []string {
	return []string{"--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:" + size}
}

// Enlarge starts a small server again, with ten times the room.
func (s *Server) Enlarge() error {
	s.Kill()
	return s.Up(roomFor("480M")...)
}
