package mysqljournal

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"slices"
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

// A use is what a connection is for.
type use uint8

const (
	reads   use = iota // each statement by itself; it may stand idle for hours
	changes            // transactions now and then
	carries            // transactions, one behind the other: each statement is a part of one
)

// session is what every connection is set to: what the statements mean must not depend on the server's settings, and no wait
// for a lock may last. A connection that changes rows is ended by the server when nothing has come for idle seconds, and its locks go with it:
// so nobody has to end another's connection whose process stands still, or cannot be reached any more.
func (j *Journal) session(u use) []string {
	hold := time.Duration(j.hold.Load())
	set := fmt.Sprintf("SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', autocommit = %d, "+
		"innodb_lock_wait_timeout = %[2]d, lock_wait_timeout = %[2]d", map[bool]int{true: 1}[u != carries], seconds(hold/4, 1, 10))
	if u != reads {
		set += fmt.Sprintf(", wait_timeout = %d", seconds(hold, 2, 30))
	}
	return []string{set, "SET NAMES utf8mb4", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"}
}

// seconds is d in whole seconds, at least least and at most most.
func seconds(d time.Duration, least, most int64) int64 {
	return min(max(int64(d/time.Second), least), most)
}

// beatEvery is how often the owner says that it lives: often enough that its connection is not ended as an idle one.
func (j *Journal) beatEvery() time.Duration {
	return min(time.Duration(j.hold.Load())/5, 5*time.Second)
}

// connect makes a connection.
func (j *Journal) connect(ctx context.Context, u use) (*sql.Conn, error) {
	conn, err := j.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range j.session(u) {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			discard(conn)
			return nil, err
		}
	}
	var packet int64
	if err := conn.QueryRowContext(ctx, "SELECT @@max_allowed_packet").Scan(&packet); err != nil {
		discard(conn)
		return nil, err
	}
	if need := int64(2*j.opt.MaxMessageBytes + 256<<10); packet < need {
		discard(conn)
		return nil, permanent{fmt.Errorf("max_allowed_packet is %d; messages of up to %d bytes need %d", packet, j.opt.MaxMessageBytes, need)}
	}
	j.packet.Store(packet)
	j.composer.statement.Store(min(roomIn(packet), statementBytes))
	return conn, nil
}

// roomIn is how much a statement may hold, with bytes that need no escape: each may need one.
func roomIn(packet int64) int64 { return packet/2 - 8<<10 }

// discard gives a connection up, so that nothing of it is used again.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return errDiscard }) // the pool closes what fails so
	_ = conn.Close()
}

var errDiscard = fmt.Errorf("gmq gives the connection up: %w", driver.ErrBadConn)

// The numbers of errors that mean something to us. Source: the error references of MariaDB and MySQL.
const (
	tableExists    = 1050
	duplicateEntry = 1062
	noSuchTable    = 1146
	lockTimeout    = 1205
	deadlock       = 1213
)

var (
	fullCodes     = []uint16{3, 1021, 1026, 1030, 1114, 1197, 1534}
	readOnlyCodes = []uint16{1290, 1792, 1836, 1874}
	// hopeless are those that a second attempt at the start cannot change.
	hopeless = []uint16{1044, 1045, 1049, 1054, 1142, 1143, noSuchTable, 1193, 1227, 1698, 3159}
	// unfit are the driver's own errors of that kind.
	unfit = []error{mysql.ErrNoTLS, mysql.ErrOldProtocol, mysql.ErrUnknownPlugin, mysql.ErrOldPassword, mysql.ErrCleartextPassword, mysql.ErrNativePassword}
)

// permanent is an error that another attempt will not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// A fault is what kind of error the database has given.
type fault uint8

const (
	lost     fault = iota // the connection is gone; whether the statement took effect is unknown
	again                 // the transaction was undone and may be tried again at once
	held                  // somebody else has a lock on what it needs
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
	case e.Number == deadlock:
		return again
	case e.Number == lockTimeout:
		return held
	case isFull(e):
		return noSpace
	case slices.Contains(readOnlyCodes, e.Number):
		return readOnly
	case e.Number == 1053 || e.Number == 1317 || e.Number == 1927 || e.Number == 1077 || e.Number == 1079: // shutting down, killed
		return lost
	}
	return refused
}

// isFull tells a lack of space from the other things that the same numbers are used for.
func isFull(e *mysql.MySQLError) bool {
	if !slices.Contains(fullCodes, e.Number) {
		return false
	}
	switch e.Number {
	case 1021, 1114, 1197, 1534:
		return true
	}
	return noRoom.MatchString(e.Message)
}

// noRoom is how those messages quote the operating system, such as: Got error 28 "No space left on device" from storage engine.
var noRoom = regexp.MustCompile(`(?i)no space left|quota exceeded|err(or|code):? 28\b`)

// isHopeless reports whether trying again at the start is of no use.
func isHopeless(err error) bool {
	var p permanent
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &p) || errors.As(err, &untrusted) || slices.ContainsFunc(unfit, func(u error) bool { return errors.Is(err, u) }) {
		return true
	}
	var e *mysql.MySQLError
	return errors.As(err, &e) && slices.Contains(hopeless, e.Number)
}
