package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/internal/admin"
	"github.com/gmq/gmq/internal/audit"
	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/internal/vfs"
	"github.com/gmq/gmq/wire"
)

// envAdminPassword is the variable with the password of the user that the first start makes.
const envAdminPassword = "GMQ_ADMIN_PASSWORD"

// adminPasswordFile is where that password is written, in the data directory, if nobody has chosen it.
const adminPasswordFile = "admin-password"

// openAuth restores who the users are, and makes the first one where there is none.
func (in *instance) openAuth() error {
	in.auth = auth.New(auth.Options{Required: in.cfg.Auth.Required, Limits: authLimits(&in.cfg), Put: in.node.member.Put})
	in.broker.WatchDocuments(auth.Prefix, func(name string, data []byte) {
		if err := in.auth.Changed(name, data); err != nil {
			in.log.Error("users", "err", err)
		}
	})
	if in.node.member.Member() {
		return nil // the cluster has its users
	}
	file := filepath.Join(in.cfg.Data, adminPasswordFile)
	written := false
	began, err := in.auth.Begin(func() ([]byte, error) {
		if p := os.Getenv(envAdminPassword); p != "" {
			return chosenPassword(p)
		}
		written = true
		return writePassword(file)
	})
	switch {
	case err != nil:
		return fmt.Errorf("the user %s: %w", auth.Admin, err)
	case began.Made && written:
		in.log.Warn("the user "+auth.Admin+" was made; its password is in the file, which can be removed once it is known", "file", file)
	case began.Made:
		in.log.Info("the user " + auth.Admin + " was made, with the password from " + envAdminPassword)
		in.warnShort(os.Getenv(envAdminPassword))
	case began.Users > 0:
		in.log.Warn("the user " + auth.Admin + " was there already: its password stays, and " + envAdminPassword + " counts for nothing")
	}
	if began.Users+began.Tokens > 0 {
		in.log.Warn("logins are required from now on, and there are users and tokens that anybody may have made before; look at them: gmq user ls, gmq token ls",
			"users", began.Users, "tokens", began.Tokens)
	}
	return nil
}

// writePassword makes a password and the file that holds it.
func writePassword(file string) ([]byte, error) {
	text := rand.Text()
	// One that is there is from a start that was interrupted before there was a user.
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(f, text+"\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = vfs.OS().SyncDir(filepath.Dir(file))
	}
	return []byte(text), err
}

func authLimits(c *config.Config) auth.Limits {
	l := &c.Limits
	return auth.Limits{
		AddressConnections: l.MaxConnectionsPerAddress, UserConnections: l.MaxConnectionsPerUser,
		AddressRate: l.MaxRatePerAddress, UserRate: l.MaxRatePerUser,
	}
}

// openAudit begins the audit log; nil where there is to be none.
func (in *instance) openAudit() error {
	switch in.cfg.Log.Audit {
	case config.AuditOff:
	case config.AuditLog:
		in.audit = audit.New(in.log, time.Now)
	default:
		in.auditFile = &logFile{name: in.cfg.Log.Audit, failing: func(err error) {
			in.log.Error("audit records cannot be written, and are lost", "file", in.cfg.Log.Audit, "err", err)
		}}
		if err := in.auditFile.open(); err != nil {
			return fmt.Errorf("log.audit: %w", err)
		}
		in.audit = audit.New(slog.New(slog.NewJSONHandler(in.auditFile, nil)), time.Now)
	}
	return nil
}

// A logFile is a file that is appended to, and opened again where its name means another file by now.
type logFile struct {
	name    string
	failing func(error) // told when writing begins to fail: who writes logs does not look
	failed  atomic.Uint64

	mu    sync.Mutex // guards the following
	f     *os.File
	fails bool // the last write did
}

// open opens the file anew. Where it cannot be opened what was open stays in use.
func (l *logFile) open() error {
	f, err := os.OpenFile(l.name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		err = l.f.Close()
	}
	l.f = f
	return err
}

// Write implements io.Writer.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	n, err := l.f.Write(b)
	begins := err != nil && !l.fails
	l.fails = err != nil
	l.mu.Unlock()
	if err != nil {
		l.failed.Add(1)
	}
	if begins {
		l.failing(err)
	}
	return n, err
}

// auditFailures is how many records could not be written.
func (in *instance) auditFailures() uint64 {
	if in.auditFile == nil {
		return 0
	}
	return in.auditFile.failed.Load()
}

// adminGate decides who may ask the admin address what; nil where everybody may.
func (in *instance) adminGate() admin.Gate {
	if !in.auth.Required() {
		return nil
	}
	return &adminGate{in.auth, in.audit}
}

// An adminGate has the users of the client address log in to the admin address.
type adminGate struct {
	auth  *auth.Service
	audit *audit.Log // may be nil
}

// adminRights are the rights that pages need on everything.
var adminRights = map[string]wire.Verb{admin.SeeMetrics: wire.VerbPeek | wire.VerbAdmin, admin.SeeAll: wire.VerbAdmin}

// Admit implements admin.Gate.
func (g *adminGate) Admit(r *http.Request, what string) (int, string) {
	id, err := g.who(r)
	verbs, known := adminRights[what]
	if !known {
		verbs = wire.VerbAdmin
	}
	if err == nil && !id.Authorize(verbs, auth.Everything).Allowed {
		err = wire.Errorf(wire.CodeForbidden, "%s needs the right %s on everything", r.URL.Path, verbs.String())
	}
	if g.audit != nil && (err != nil || what != admin.SeeMetrics) { // whoever scrapes does it all the time
		who := ""
		if id != nil {
			who = id.Name()
		}
		g.audit.Record(who, r.RemoteAddr, "http", r.URL.Path, err)
	}
	if err == nil {
		return http.StatusOK, ""
	}
	switch err.Code {
	case wire.CodeUnauthenticated:
		return http.StatusUnauthorized, err.Error()
	case wire.CodeRateLimited, wire.CodeTooManyConnections:
		return http.StatusTooManyRequests, err.Error()
	}
	return http.StatusForbidden, err.Error()
}

// who logs in whoever has sent a request.
func (g *adminGate) who(r *http.Request) (*auth.Identity, *wire.Error) {
	v, err := arrive(g.auth, r)
	if err != nil {
		return nil, err
	}
	defer v.Leave()
	if err := loginByHeader(v, r); err != nil {
		return nil, err
	}
	return v.Identity(), nil
}

// arrive is somebody who has sent a request and asks no more than that. Leave must follow.
func arrive(service *auth.Service, r *http.Request) (*auth.Visitor, *wire.Error) {
	v, err := service.Arrive(r.RemoteAddr)
	if err != nil {
		return nil, err
	}
	v.Passing()
	if r.TLS != nil {
		v.Secured()
	}
	return v, nil
}

// loginByHeader logs in by what a request says itself.
func loginByHeader(v *auth.Visitor, r *http.Request) *wire.Error {
	hello := wire.Request{Op: wire.OpHello}
	if user, password, ok := r.BasicAuth(); ok {
		hello.Set, hello.User, hello.Password = wire.FieldUser|wire.FieldPassword, []byte(user), []byte(password)
	} else if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		hello.Set, hello.Token = wire.FieldToken, []byte(token)
	} else {
		return wire.Errorf(wire.CodeUnauthenticated, "this page needs a login: HTTP Basic, or a token as Authorization: Bearer")
	}
	return loginBy(v, &hello)
}

func loginBy(v *auth.Visitor, hello *wire.Request) *wire.Error {
	if len(hello.User) > wire.MaxUser || len(hello.Password) > wire.MaxPassword || len(hello.Token) > wire.MaxToken {
		return wire.Errorf(wire.CodeUnauthenticated, "user and password, or the token, are not right")
	}
	_, _, err := v.Login(hello)
	return err
}
