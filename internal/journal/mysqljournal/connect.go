package mysqljournal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// config reads a DSN. The error says what is wrong and repeats nothing of it: it may hold a password.
func config(dsn string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("mysql: the DSN is not as it must be: user:password@tcp(host:3306)/database")
	}
	if cfg.DBName == "" {
		return nil, errors.New("mysql: the DSN names no database: …/database")
	}
	cfg.MultiStatements, cfg.InterpolateParams, cfg.ParseTime = false, true, false
	cfg.MaxAllowedPacket = 0 // whatever the server says
	cfg.Timeout = orDefault(cfg.Timeout, 5*time.Second)
	cfg.ReadTimeout = orDefault(cfg.ReadTimeout, 30*time.Second)
	cfg.WriteTimeout = orDefault(cfg.WriteTimeout, 30*time.Second)
	cfg.Logger = silent{}
	return cfg, nil
}

// CheckDSN says what is wrong with a DSN, without repeating it.
func CheckDSN(dsn string) error {
	_, err := config(dsn)
	return err
}

type silent struct{}

func (silent) Print(...any) {} // what the driver has to say comes as errors, too

// session is what every connection is set to: what the statements mean must not depend on the server's settings.
var session = []string{
	"SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
	"SET SESSION time_zone = '+00:00'",
	"SET NAMES utf8mb4",
	"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
}

// connect makes a connection. autocommit is off where each statement is a part of a transaction.
func (j *Journal) connect(ctx context.Context, autocommit bool) (*sql.Conn, int64, error) {
	conn, err := j.db.Conn(ctx)
	if err != nil {
		return nil, 0, err
	}
	fail := func(err error) (*sql.Conn, int64, error) {
		discard(conn)
		return nil, 0, err
	}
	for _, s := range append(session[:len(session):len(session)], fmt.Sprintf("SET SESSION autocommit = %d", map[bool]int{true: 1}[autocommit])) {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fail(err)
		}
	}
	var packet, id int64
	if err := conn.QueryRowContext(ctx, "SELECT @@max_allowed_packet, CONNECTION_ID()").Scan(&packet, &id); err != nil {
		return fail(err)
	}
	if need := int64(2*j.opt.MaxMessageBytes + 256<<10); packet < need {
		return fail(permanent{fmt.Errorf("max_allowed_packet is %d; messages of up to %d bytes need %d", packet, j.opt.MaxMessageBytes, need)})
	}
	j.packet.Store(packet)
	j.composer.statement.Store(min(packet-1024, statementBytes))
	return conn, id, nil
}

// discard gives a connection up, so that nothing of it is used again.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return errDiscard }) // the pool closes what fails so
	_ = conn.Close()
}

var errDiscard = fmt.Errorf("gmq gives the connection up: %w", driver.ErrBadConn)

// The numbers of errors that mean something to us. Source: the error references of MariaDB and MySQL.
const (
	duplicateEntry = 1062
	lockTimeout    = 1205
	deadlock       = 1213
)

var (
	fullCodes     = []uint16{3, 1021, 1114, 1026, 1030, 1041, 1037, 1197, 1534}
	readOnlyCodes = []uint16{1290, 1792, 1836, 1874}
	// hopeless are those that a second attempt at the start cannot change.
	hopeless = []uint16{1044, 1045, 1049, 1142, 1143, 1227, 1698, 3159}
)

// permanent is an error that another attempt will not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// A fault is what kind of error the database has given.
type fault uint8

const (
	lost     fault = iota // the connection is gone; whether the statement took effect is unknown
	again                 // the transaction was undone and may be tried again at once
	noSpace               // the server has no room
	readOnly              // the server takes no changes
	refused               // anything else that the server has said
)

// faultOf classifies an error.
func faultOf(err error) fault {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return lost
	}
	switch {
	case e.Number == deadlock || e.Number == lockTimeout:
		return again
	case isFull(e):
		return noSpace
	case contains(readOnlyCodes, e.Number):
		return readOnly
	case e.Number == 1053 || e.Number == 1317 || e.Number == 1927 || e.Number == 1077 || e.Number == 1079: // shutting down, killed
		return lost
	}
	return refused
}

// isFull tells a lack of space from the other things that the same numbers are used for.
func isFull(e *mysql.MySQLError) bool {
	if !contains(fullCodes, e.Number) {
		return false
	}
	switch e.Number {
	case 1021, 1114, 1197, 1534:
		return true
	}
	return strings.Contains(e.Message, "28") || strings.Contains(e.Message, "122") || strings.Contains(strings.ToLower(e.Message), "no space")
}

func contains(all []uint16, n uint16) bool {
	for _, c := range all {
		if c == n {
			return true
		}
	}
	return false
}

// isHopeless reports whether trying again at the start is of no use.
func isHopeless(err error) bool {
	var p permanent
	if errors.As(err, &p) {
		return true
	}
	var e *mysql.MySQLError
	return errors.As(err, &e) && contains(hopeless, e.Number)
}
