package mysqljournal

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/go-sql-driver/mysql"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// migrations are the statements of each version of the schema, in order. A file, once released, never changes.
func migrations() ([][]string, error) {
	names, err := fs.Glob(schemaFiles, "schema/*.sql")
	if err != nil {
		return nil, err
	}
	var all [][]string
	for i, name := range names { // Glob sorts
		if want := fmt.Sprintf("schema/%04d.sql", i+1); name != want {
			return nil, fmt.Errorf("migration %s is not %s", name, want)
		}
		text, err := schemaFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, statements(string(text)))
	}
	return all, nil
}

var comment = regexp.MustCompile(`(?m)^\s*--.*$`)

// statements cuts a migration at the semicolons; none of them holds one in a text.
func statements(text string) (all []string) {
	for s := range strings.SplitSeq(comment.ReplaceAllString(text, ""), ";") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// newest stands for all versions that this program knows.
const newest = 1 << 30

// migrate brings the tables to a version, or the newest before it that there is. A statement that changes tables commits by itself, so
// each one is noted when it has been done, and what an earlier program did not get to do is done by the next. Two programs
// may do so at once: what one has done, the other finds done.
func migrate(ctx context.Context, conn *sql.Conn, to int) error {
	all, err := migrations()
	if err != nil {
		return err
	}
	version, step, err := migrated(ctx, conn)
	if err != nil {
		return err
	}
	if version > len(all) {
		return permanent{fmt.Errorf("the tables have version %d of the schema; this program knows %d: use a newer one", version, len(all))}
	}
	for v := max(version, 1); v <= min(to, len(all)); v++ {
		from := 0
		if v == version {
			from = step
		}
		for i := from; i < len(all[v-1]); i++ {
			if err := migrateStep(ctx, conn, v, i+1, all[v-1][i]); err != nil {
				return fmt.Errorf("migration %04d.sql, statement %d: %w", v, i+1, err)
			}
		}
	}
	return nil
}

// migrated is the latest statement that was done, 0 of version 0 where none was. Whoever has no right to make tables may ask, too.
func migrated(ctx context.Context, conn *sql.Conn) (version, step int, err error) {
	err = conn.QueryRowContext(ctx, "SELECT version, step FROM gmq_schema ORDER BY version DESC, step DESC LIMIT 1").Scan(&version, &step)
	var fault *mysql.MySQLError
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, 0, nil
	case errors.As(err, &fault) && fault.Number == noSuchTable:
		_, err = conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS gmq_schema (version INT NOT NULL, step INT NOT NULL, "+
			"applied DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (version, step)) ENGINE=InnoDB")
	}
	return version, step, err
}

// migrateStep does one statement and notes it. Where the program died between the two, what was made is found there.
func migrateStep(ctx context.Context, conn *sql.Conn, version, step int, statement string) error {
	_, err := conn.ExecContext(ctx, statement)
	var fault *mysql.MySQLError
	if errors.As(err, &fault) && (fault.Number == tableExists && strings.HasPrefix(statement, "CREATE") ||
		fault.Number == duplicateEntry && strings.HasPrefix(statement, "INSERT")) {
		err = nil
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, "INSERT INTO gmq_schema (version, step) VALUES (?, ?)", version, step)
	}
	if errors.As(err, &fault) && fault.Number == duplicateEntry {
		err = nil // another program was quicker
	}
	return err
}
