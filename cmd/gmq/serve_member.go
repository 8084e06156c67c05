package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster/member"
	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/internal/journal/mysqljournal"
)

// memberOptions are what the configuration says of a node's part in a cluster. What it is connected to is for the caller to add.
func (in *instance) memberOptions(data string) member.Options {
	c := in.cfg.Members()
	opt := member.Options{
		Dir: data, Name: c.Node, Listen: c.Listen, Derived: in.cfg.Cluster == nil || in.cfg.Cluster.Listen == "", Advertise: c.Advertise, Replicas: c.Replicas, Groups: broker.Shards, Version: version,
		Client: clientAddress(&in.cfg, nil),
		Logf:   func(format string, args ...any) { in.log.Info("cluster: " + fmt.Sprintf(format, args...)) },
		Tracef: in.debugCluster,
	}
	if c := in.cfg.Storage.MySQL; c != nil {
		opt.Tables = func(ctx context.Context) (string, error) { return mysqljournal.Identify(ctx, c.DSN) }
		opt.Holds = in.tables.has
	}
	return opt
}

// clientAddress is where clients reach this server, as other nodes tell them: where it listens, on the host of cluster.advertise
// where it listens everywhere. It is "" where the port is not known before it listens, at bound.
func clientAddress(c *config.Config, bound net.Addr) string {
	listen := c.Listen
	if bound != nil {
		listen = bound.String()
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		m := c.Members()
		for _, other := range []string{m.Advertise, m.Listen} {
			if h, _, err := net.SplitHostPort(other); err == nil && h != "" && !net.ParseIP(h).IsUnspecified() {
				return net.JoinHostPort(h, port)
			}
		}
		return ""
	}
	return net.JoinHostPort(host, port)
}

// joinTime is how long a server tries to join: what keeps it from joining for longer somebody has to look at.
const joinTime = 2 * time.Minute

// joinCluster joins, unless it is asked to stop first.
func (in *instance) joinCluster(m *member.Manager) error {
	ctx, cancel := context.WithTimeout(context.Background(), joinTime)
	defer cancel()
	over := make(chan struct{})
	defer close(over)
	var stopped atomic.Bool
	go func() {
		for {
			select {
			case sig := <-in.signals:
				if sig != syscall.SIGHUP {
					stopped.Store(true)
					cancel()
				}
			case <-over:
				return
			}
		}
	}()
	err := m.Join(ctx, in.join)
	if err != nil && stopped.Load() {
		return fmt.Errorf("%w, while it tried to join: %v", context.Canceled, err)
	}
	return err
}

// wantJoin is asked before the journal is opened: whether a server that is to join may do so with its data directory, and whether one that is not to
// may be a server alone with it.
func (in *instance) wantJoin(m *member.Manager, data string) error {
	if m.Member() {
		return nil
	}
	_, err := os.Stat(filepath.Join(data, "VERSION"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	used := err == nil
	switch {
	case in.join != "":
		if err := m.Wants(used); err != nil {
			return fmt.Errorf("%s: %w", data, err)
		}
	case !used && m.Waits():
		return fmt.Errorf("%s: this server was to join a cluster and has not been let in, so it does not start as one of its own; start it with --join, "+
			"or, to have it begin alone, with an empty data directory (nothing has been stored in this one)", data)
	}
	return nil
}
