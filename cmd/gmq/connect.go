package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// address is the server's, with a port; of several nodes of a cluster, with commas between them, each one's.
func (g *globals) address() string {
	var all []string
	for a := range strings.SplitSeq(g.server, ",") {
		if a = strings.TrimSpace(a); a == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a); err != nil {
			a = net.JoinHostPort(strings.Trim(a, "[]"), defaultPort)
		}
		all = append(all, a)
	}
	return strings.Join(all, ",")
}

// connect connects once and gives up where that fails. Where the connection is lost later
// the context ends, with the reason as its cause; unless there are other nodes to go on with, or lost is given: it is called, and
// the client connects again by itself. closing ends the client.
func (g *globals) connect(parent context.Context, lost func(), opts ...gmq.Option) (c *gmq.Client, ctx context.Context, closing func(), err error) {
	if err := g.resolve(); err != nil { // where a shell completes, nobody has done so yet
		return nil, nil, nil, err
	}
	secure, err := g.target.options()
	if err != nil {
		return nil, nil, nil, err
	}
	addr := g.address()
	login, err := g.login()
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, end := context.WithCancelCause(parent)
	var dialer net.Dialer
	var made *gmq.Client
	ready := make(chan struct{}) // closed when made is there
	gone := func(error) {
		switch <-ready; {
		case lost != nil:
			lost()
		case len(made.Hello().Nodes) < 2:
			end(fmt.Errorf("the connection to %s was lost", addr))
		}
	}
	dial := func(dialing context.Context, addr string) (net.Conn, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		conn, err := dialer.DialContext(dialing, "tcp", addr)
		if err == nil && g.sendsToken && !g.target.TLS && !loopback(conn.RemoteAddr()) {
			return nil, errors.Join(inClear("the token", addr), conn.Close())
		}
		return conn, err
	}
	opts = append(append(opts, secure...), gmq.ClientName("gmq "+version), gmq.DialTimeout(g.timeout), gmq.DialWith(dial), gmq.OnLost(gone))
	opts = append(opts, login...)
	c, err = gmq.Dial(ctx, addr, opts...)
	if err != nil {
		end(nil)
		return nil, nil, nil, g.cannotConnect(err)
	}
	made = c
	close(ready)
	return c, ctx, func() {
		wait, cancel := g.context(ctx)
		defer cancel()
		// What is left undone has been told by whoever waited for it.
		_ = c.Shutdown(wait)
		end(nil)
	}, nil
}

// loopback reports whether an address is of this machine, so that nobody else can read what is sent there.
func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// inClear is told instead of sending a secret where others could read it.
func inClear(what, addr string) error {
	return &failure{exitNotAllowed, fmt.Errorf("%s is not sent unencrypted to another machine (%s); use TLS: --%s, or --%s FILE", what, addr, flagTLS, flagCA)}
}

// ask connects for one request, or a few, that must be done within the timeout.
func (g *globals) ask(cmd *cobra.Command, do func(ctx context.Context, c *gmq.Client) error) error {
	c, ctx, closing, err := g.connect(cmd.Context(), nil)
	if err != nil {
		return err
	}
	defer closing()
	ctx, cancel := g.context(ctx)
	defer cancel()
	return explain(ctx, do(ctx, c))
}

func (g *globals) cannotConnect(err error) error {
	if e, ok := errors.AsType[*gmq.Error](err); ok {
		f := inWords(e)
		if code := exitCode(f); code != exitError {
			return f
		}
		return &failure{exitConnect, fmt.Errorf("cannot connect to %s: %w", g.address(), f)}
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	why, hint := strings.TrimPrefix(err.Error(), "gmq: connect to "+g.address()+": "), ""
	dns, isDNS := errors.AsType[*net.DNSError](err)
	errno, isErrno := errors.AsType[syscall.Errno](err)
	switch {
	case g.target.tlsHint(err) != "":
		hint = g.target.tlsHint(err)
	case isDNS:
		why, hint = dns.Err, "; is the name of the server right?"
	case errors.Is(err, context.DeadlineExceeded):
		why, hint = fmt.Sprintf("no answer within %v", g.timeout), "; is it the address of a gmq server?"
	case isErrno:
		why = errno.Error()
		if errno == syscall.ECONNREFUSED {
			hint = "; is the server running? start one with: gmq serve"
		}
	}
	return &failure{exitConnect, fmt.Errorf("cannot connect to %s: %s%s", g.address(), why, hint)}
}

// explain turns an error of the client into one for people, with its exit code. Where ctx
// has ended, why it has says more than the error.
func explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	e, fromServer := errors.AsType[*gmq.Error](err)
	if cause := context.Cause(ctx); cause != nil && (!fromServer || e.Code == wire.CodeUnknownOutcome) {
		return cause
	}
	return inWords(err)
}

// inWords is explain where no context has a say.
func inWords(err error) error {
	text := errors.New(strings.TrimPrefix(err.Error(), "gmq: "))
	if e, ok := errors.AsType[*gmq.Error](err); ok {
		if e.Code == wire.CodeUnauthenticated && !strings.Contains(e.Message, "certificate") && !strings.Contains(e.Message, "unencrypted") { // that no password mends
			text = fmt.Errorf("%w; %s and %s, or %s, say who you are", text, envUser, envPassword, envToken)
		}
		return &failure{codeFor(e.Code), text}
	}
	return text
}

func codeFor(code wire.Code) int {
	switch code {
	case wire.CodeForbidden, wire.CodeUnauthenticated:
		return exitNotAllowed
	case wire.CodeNotFound:
		return exitNotFound
	}
	return exitError
}

// queueArg checks the name before anybody is asked, so that it is a usage error.
func queueArg(name string) error {
	if !wire.ValidQueueName([]byte(name)) {
		return usage("%q is no name of a queue: want 1 to %d of A-Z a-z 0-9 . _ -, not starting with a dot", name, wire.MaxName)
	}
	return nil
}

// completeQueues offers the names of the server's queues as the first argument.
func (g *globals) completeQueues(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	err := g.ask(cmd, func(ctx context.Context, c *gmq.Client) error {
		for q, err := range c.ListQueues(ctx, prefix) {
			if err != nil {
				return err
			}
			names = append(names, q.Queue)
		}
		return nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
