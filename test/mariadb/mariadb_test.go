package mariadb

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m.Run)) }

// What is committed is there after a kill.
func TestKill(t *testing.T) {
	s := Get(t)
	s.NeedPrivate(t)
	Quiet()
	db := Connect(t, s.Database(t))
	for _, q := range []string{"CREATE TABLE t (n INT PRIMARY KEY)", "INSERT INTO t VALUES (17)"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	s.Kill()
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := db.QueryRow("SELECT n FROM t").Scan(&n); err != nil || n != 17 {
		t.Fatal(n, err)
	}
}
