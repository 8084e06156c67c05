package mysqljournal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
)

// identifyTime is how long Identify waits for the database.
const identifyTime = 5 * time.Second

// Identify names the tables in the database of a DSN, so that two servers can tell whether they mean the same: by the database's name and when the
// tables were made. It tells nothing of the DSN. The error is that the database cannot be asked, or has no tables yet.
func Identify(ctx context.Context, dsn string) (string, error) {
	cfg, err := config(dsn)
	if err != nil {
		return "", err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return "", fmt.Errorf("mysql: %w", err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, identifyTime)
	defer cancel()
	return identify(ctx, db)
}

// Identity is Identify of the tables that this process has.
func (j *Journal) Identity(ctx context.Context) (string, error) { return identify(ctx, j.db) }

func identify(ctx context.Context, db *sql.DB) (string, error) {
	rows, err := db.QueryContext(ctx, "SELECT DATABASE(), step, applied FROM gmq_schema WHERE version = 1 ORDER BY step")
	var fault *mysql.MySQLError
	if errors.As(err, &fault) && fault.Number == noSuchTable {
		return "", errors.New("mysql: the database has no tables of a server yet")
	}
	if err != nil {
		return "", fmt.Errorf("mysql: %w", err)
	}
	defer rows.Close()
	h, some := sha256.New(), false
	for rows.Next() {
		var name, applied string
		var step int
		if err := rows.Scan(&name, &step, &applied); err != nil {
			return "", fmt.Errorf("mysql: %w", err)
		}
		fmt.Fprintf(h, "%s\x00%d\x00%s\x00", name, step, applied)
		some = true
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("mysql: %w", err)
	}
	if !some {
		return "", errors.New("mysql: the database has no tables of a server yet")
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
