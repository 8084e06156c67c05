package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/internal/journal/filejournal"
)

// stdio is the name of a file that means standard input or output.
const stdio = "-"

// leastStall is how long at least nothing may come of a backup: the server verifies what it sends first.
const leastStall = 30 * time.Second

func newBackup(g *globals) *cobra.Command {
	var admin string
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Back up a running server",
		Long: `Backup asks the admin address of a server on this machine for a copy of what it has on disk,
while it serves, and writes it to FILE, or to standard output (-): a tar archive with checksums.
All that was confirmed before the backup began is in it; what was confirmed meanwhile may be.
Messages in memory queues are not in it.

FILE appears when the backup is whole, and must not be there before. The server verifies what
it copies: a damaged journal gives no backup. See also: gmq restore.

The admin address speaks HTTP on loopback. Where it is beyond that and the server has a certificate
it speaks HTTPS: say how to trust it with --ca or --tls. A password or a token is sent over HTTPS, or to
this machine. A context counts only if it is named (--context).`,
		Example: `  gmq backup /backup/gmq-$(date +%F).tar
  gmq backup - | zstd > gmq.tar.zst
  ssh broker.example.org gmq backup - > gmq.tar`,
		Args:        cobra.ExactArgs(1),
		Annotations: map[string]string{usesKey: strings.Join([]string{flagTimeout, flagOutput, flagUser, flagSecret, flagContext, flagTLS, flagCA, flagCert, flagCertKey, flagServerName}, " ")},
		RunE:        func(cmd *cobra.Command, args []string) error { return backUp(cmd, g, admin, args[0]) },
	}
	def := os.Getenv(config.EnvName("admin"))
	if def == "" {
		def = config.Default().Admin
	}
	cmd.Flags().StringVar(&admin, "admin", def, "admin `address` of the server")
	complete(cmd, "admin")
	return cmd
}

// A backedUp is what backup prints.
type backedUp struct {
	File    string    `json:"file"`
	Bytes   int64     `json:"bytes"`
	Began   time.Time `json:"began"`
	End     string    `json:"end"`
	Version string    `json:"version"`
}

func backUp(cmd *cobra.Command, g *globals, admin, file string) error {
	if admin == config.AdminOff {
		return usage("--admin: the server's admin address is needed; a server without one has to be stopped, and its directory copied")
	}
	if err := g.resolveFor(true); err != nil { // by --admin: what is for another server is not sent to this one
		return err
	}
	if file == stdio && g.json() {
		return usage("-o json and - both want standard output: which of them?")
	}
	if file == stdio && onTerminal(cmd.OutOrStdout()) {
		return usage("a backup is nothing for a terminal; name a FILE, or pipe it into something")
	}
	if file == stdio {
		b, err := fetchBackup(cmd, g, admin, cmd.OutOrStdout())
		if err == nil {
			_, err = fmt.Fprint(cmd.ErrOrStderr(), b.text())
		}
		return err
	}
	b, err := backUpFile(cmd, g, admin, file)
	if err != nil {
		return err
	}
	if b.File = file; g.json() {
		return printJSON(cmd.OutOrStdout(), b)
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), b.text())
	return err
}

// backUpFile writes a file that appears when it is whole.
func backUpFile(cmd *cobra.Command, g *globals, admin, file string) (b backedUp, err error) {
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s is there already; a backup overwrites nothing", file)
		}
		return b, err
	}
	partial := file + ".partial"
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return b, err
	}
	b, err = fetchBackup(cmd, g, admin, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		// Unlike a rename this fails where somebody else has made the file meanwhile.
		if err = os.Link(partial, file); err != nil && !errors.Is(err, fs.ErrExist) {
			err = os.Rename(partial, file) // a file system without links
		}
	}
	if rerr := os.Remove(partial); err == nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = rerr
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	return b, err
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// fetchBackup writes a backup to w, and verifies it in passing.
func fetchBackup(cmd *cobra.Command, g *globals, admin string, w io.Writer) (b backedUp, err error) {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	stall := max(g.timeout, leastStall)
	watch := time.AfterFunc(stall, func() {
		cancel(fmt.Errorf("nothing came from %s for %v; the backup is given up", admin, stall))
	})
	defer watch.Stop()
	resp, err := askBackup(ctx, g, admin)
	if err != nil {
		return b, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return b, refusedBackup(admin, resp)
	}
	in := &counted{r: resp.Body, more: func() { watch.Reset(stall) }}
	stop := progress(cmd.ErrOrStderr(), func() string { return bytesText(in.n.Load()) })
	defer stop()
	all := io.TeeReader(in, w)
	info, err := filejournal.VerifyBackup(all)
	if err == nil {
		_, err = io.Copy(io.Discard, all) // what ends the archive
	}
	stop()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return b, cause
	}
	if why := resp.Trailer.Get("Gmq-Error"); err != nil && why != "" {
		return b, errors.New(why)
	}
	return backedUp{Bytes: in.n.Load(), Began: info.Began, End: info.EndText(), Version: info.Version}, err
}

// askBackup asks the admin address. Credentials go over HTTPS, or to this machine.
func askBackup(ctx context.Context, g *globals, admin string) (*http.Response, error) {
	here := config.IsLoopback(admin)
	t := g.target
	if here && !g.saysTLS() { // a context is about the client address, and the admin address speaks HTTP on loopback
		t.TLS = false
	}
	settings, err := t.config()
	if err != nil {
		return nil, err
	}
	scheme := "http://"
	if t.TLS {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+admin+"/backup", nil)
	if err != nil {
		return nil, usage("--admin: %w", err)
	}
	req.Header.Set("Gmq-Action", "backup")
	if err := g.authorize(req); err != nil {
		return nil, err
	}
	if req.Header.Get("Authorization") != "" && !t.TLS && !here {
		return nil, inClear("the password, or the token,", admin)
	}
	client := &http.Client{
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: g.timeout}).DialContext, DisableCompression: true, TLSClientConfig: settings},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the admin address does not
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, cannotBackUp(ctx, admin, t.tlsHint(err), err)
	}
	return resp, nil
}

// saysTLS reports whether a flag says so, be there a context or not.
func (g *globals) saysTLS() bool {
	return slices.ContainsFunc([]string{flagTLS, flagCA, flagCert, flagCertKey, "key", flagServerName}, func(name string) bool { return g.flags.Lookup(name).Changed })
}

// counted counts what is read, and tells when there is more.
type counted struct {
	r    io.Reader
	n    atomic.Int64
	more func()
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		c.n.Add(int64(n))
		c.more()
	}
	return n, err
}

func cannotBackUp(ctx context.Context, admin, hint string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	why := err.Error()
	if errno, is := errors.AsType[syscall.Errno](err); is {
		why = errno.Error()
		if errno == syscall.ECONNREFUSED {
			hint = "; does the server run, and is this its admin address? --admin says another one"
		}
	}
	return &failure{exitConnect, fmt.Errorf("cannot connect to %s: %s%s", admin, why, hint)}
}

func refusedBackup(admin string, resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	refused := fmt.Errorf("%s: %s", admin, strings.TrimSpace(string(text)))
	if strings.Contains(refused.Error(), "HTTP request to an HTTPS server") { // what net/http answers
		return &failure{exitConnect, fmt.Errorf("%s speaks HTTPS; say how to trust it: --%s FILE, or --%s", admin, flagCA, flagTLS)}
	}
	switch resp.StatusCode {
	case http.StatusForbidden, http.StatusUnauthorized:
		return &failure{exitNotAllowed, refused}
	case http.StatusNotFound:
		return &failure{exitNotFound, fmt.Errorf("%s makes no backups; is it the admin address of a gmq server?", admin)}
	}
	return refused
}

func (b *backedUp) text() string {
	return fmt.Sprintf("%s: all that was confirmed before %s, up to %s of the log\n", bytesText(b.Bytes), b.Began.UTC().Format(time.RFC3339), b.End)
}
