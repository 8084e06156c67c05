package harness

import (
	"os"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/mariadb"
)

// StorageVariable has all servers that are started keep their queues in another storage than file: mysql is the one there is. So
// the tests of the wire hold for it, too.
const StorageVariable = "GMQ_TEST_STORAGE"

// Storage is the storage that a queue has of which nothing is said.
func Storage() string {
	if s := os.Getenv(StorageVariable); s != "" {
		return s
	}
	return "file"
}

// Stored is what a confirm of such a queue stands for.
func Stored() string {
	if s := Storage(); s != "file" {
		return s
	}
	return "disk"
}

// storageEnv are the variables that see to it; where the configuration asks for memory, that holds.
func storageEnv(t testing.TB, config string) []string {
	t.Helper()
	if Storage() != "mysql" {
		return nil
	}
	env := []string{"GMQ_STORAGE_MYSQL_DSN=" + mariadb.Get(t).Database(t)}
	if !strings.Contains(config, "storage: memory") {
		env = append(env, "GMQ_QUEUE_DEFAULTS_STORAGE=mysql")
	}
	return env
}

// UseMySQL lets a server, the next time that it is started, keep new queues in the database of the DSN.
func (s *Server) UseMySQL(dsn string) {
	s.env = []string{"GMQ_STORAGE_MYSQL_DSN=" + dsn, "GMQ_QUEUE_DEFAULTS_STORAGE=mysql"}
}
