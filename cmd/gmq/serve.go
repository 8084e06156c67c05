package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/admin"
	"github.com/gmq/gmq/internal/audit"
	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/config"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/outbox"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/internal/server"
	"github.com/gmq/gmq/internal/vfs"
)

// serveFlags are the flags of serve that are settings, by the setting's key.
var serveFlags = []struct{ flag, key, help string }{
	{"data", "data", "directory that holds what is stored"},
	{"listen", "listen", "address for clients"},
	{"admin", "admin", "address for health and metrics over HTTP, or off"},
	{"storage", "queue_defaults.storage", "storage of new queues: file, memory or mysql"},
	{"node", "cluster.node", "name of this node in its cluster"},
	{"cluster-listen", "cluster.listen", "address for other nodes, two ports above that for clients if not said"},
	{"advertise", "cluster.advertise", "address at which other nodes reach this one"},
}

func newServe() *cobra.Command {
	var file, join string
	var insecure bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := map[string]string{}
			for _, f := range serveFlags {
				if fl := cmd.Flags().Lookup(f.flag); fl.Changed {
					flags[f.key] = fl.Value.String()
				}
			}
			if insecure {
				flags["insecure"] = "true"
			}
			cfg, err := config.Load(file, os.Environ(), flags)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("join") && join == "" {
				return usage("--join: there is no token; gmq cluster token prints one")
			}
			return serve(cfg, join, func() (config.Config, error) {
				if file == "-" || file == "/dev/stdin" {
					return cfg, errors.New("the configuration came from standard input, which cannot be read again")
				}
				return config.Load(file, os.Environ(), flags)
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (YAML)")
	cmd.Flags().StringVar(&join, "join", "", "token of the cluster to join (gmq cluster token); counts for nothing where this node is a member")
	cmd.Flags().BoolVar(&insecure, "insecure", false, "allow clients beyond this machine without TLS and authentication")
	for _, f := range serveFlags {
		cmd.Flags().String(f.flag, "", f.help)
	}
	return cmd
}

// An instance is a running server and its parts, wired together.
type instance struct {
	cfg    config.Config
	load   func() (config.Config, error)
	log    *slog.Logger
	level  *slog.LevelVar
	wal    *filejournal.Log
	budget *journal.Budget
	broker *broker.Broker
	server *server.Server
	admin  *admin.Server
	tls    *tlsSettings // nil without TLS
	failed chan error

	nodes   nodeWatch
	join    string // the token of a cluster to join
	node    *node
	signals chan os.Signal

	auth      *auth.Service
	audit     *audit.Log // nil where log.audit is off
	auditFile *logFile   // nil where it is no file

	tables tables // the queues in MySQL
	moved  outbox.Stats

	started  time.Time
	dataDir  string // of cfg, as this never changes
	auditLog string
}

func serve(cfg config.Config, join string, load func() (config.Config, error)) error {
	paceGarbage()
	in := &instance{
		cfg: cfg, load: load, join: join, failed: make(chan error, 2), signals: make(chan os.Signal, 4),
		started: time.Now(), dataDir: cfg.Data, auditLog: cfg.Log.Audit,
	}
	in.log, in.level = newLogger(cfg.Log)
	signals := in.signals
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := in.openTLS(); err != nil {
		return err
	}
	if err := in.open(signals); errors.Is(err, context.Canceled) {
		in.log.Info("stopped", "because", err) // asked to, while it waited for tables
		return nil
	} else if err != nil {
		return err
	}
	if err := in.listen(); err != nil {
		return errors.Join(err, in.close())
	}
	look, stop := in.tls.poll()
	defer stop()
	for {
		select {
		case err := <-in.failed:
			return lost(err)
		case <-look:
			in.tls.certs.Poll()
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				in.reload()
				continue
			}
			notify("STOPPING=1")
			in.log.Info("draining", "signal", sig.String(), "timeout", time.Duration(in.cfg.DrainTimeout))
			go func() {
				for sig := range signals {
					if sig != syscall.SIGHUP {
						os.Exit(exitError) // asked twice: at once
					}
				}
			}()
			drained := make(chan error, 1)
			go func() { drained <- in.drain() }()
			select {
			case err := <-in.failed:
				return lost(err)
			case err := <-drained:
				return err
			}
		}
	}
}

// lost is the end of a server that can promise nothing any more: nothing more is said to any client.
func lost(err error) error {
	return fmt.Errorf("the server stops because it could lose what it confirms: %w", err)
}

// open restores the state from the data directory.
func (in *instance) open(signals chan os.Signal) error {
	if err := os.MkdirAll(in.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	data, err := filepath.Abs(in.cfg.Data)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := in.openAudit(); err != nil {
		return err
	}
	if err := in.openNode(data); err != nil {
		return err
	}
	started := time.Now()
	always := in.cfg.Storage.File.Sync == "always"
	in.wal, err = filejournal.Open(vfs.OS(), data, filejournal.Options{
		Sync: always, Shards: broker.Shards, CacheBytes: cacheMemory(&in.cfg),
		Logf: func(format string, args ...any) { in.log.Warn(fmt.Sprintf(format, args...)) },
	})
	if err != nil {
		return err
	}
	if err := in.openTables(data, signals); err != nil {
		return errors.Join(err, in.wal.Close())
	}
	in.budget = journal.NewBudget(queueMemory(&in.cfg))
	stored := "disk"
	if !always {
		stored = "written"
	}
	var seed [12]byte
	rand.Read(seed[:])
	in.broker, err = broker.Start(broker.Options{
		Version: version, Node: in.node.member.Name(), ID: in.node.member.ID(), Peers: in.node, Addresses: in.node.addresses, Clients: in.node.clients, Limits: limits(&in.cfg),
		Boot: binary.LittleEndian.Uint32(seed[8:]), Seed: binary.LittleEndian.Uint64(seed[:]),
		Storages: slices.Concat([]broker.Storage{{Name: "file", Stored: stored, Shared: true, Syncs: always, Replicated: true, Spread: in.wal.Spread, Open: in.journal, Lends: in.wal.Lends}},
			in.memoryStorages(), in.mysqlStorages()),
		Fail: func(err error) { in.failed <- err },
	})
	if err != nil {
		return errors.Join(err, in.closeJournals())
	}
	if err := in.takePart(stored); err != nil {
		return errors.Join(err, in.close())
	}
	if err := in.openAuth(); err != nil {
		return errors.Join(err, in.close())
	}
	in.log.Debug("restored", "data", data, "took", time.Since(started))
	return nil
}

// mostCache is as much of the log's end as is worth a place in memory: consumers that are further behind read from the
// system's own cache.
const mostCache = 64 << 20

// queueMemory is the part of limits.memory that is for memory queues; the rest is for
// the cache of the file storage, whose size is fixed at the start.
func queueMemory(c *config.Config) int64 {
	m := int64(c.Limits.Memory)
	return m - min(m/8, mostCache)
}

func limits(c *config.Config) broker.Limits {
	d := &c.QueueDefaults
	overflow := map[string]queue.Overflow{"reject": queue.Reject, "drop_oldest": queue.DropOldest, "dead_letter": queue.DeadLetterIt}
	return broker.Limits{
		MaxQueues: c.Limits.MaxQueues, MaxMessageBytes: int(c.Limits.MaxMessageBytes), MaxInFlight: c.Limits.MaxInFlight, AutoCreate: d.AutoCreate,
		Defaults: queue.Settings{
			Storage: d.Storage, MaxMessages: d.MaxMessages, MaxBytes: int64(d.MaxBytes), Overflow: overflow[d.Overflow],
			Lease: time.Duration(d.Lease), MaxDeliveries: int64(d.MaxDeliveries),
			RetryMin: time.Duration(d.Retry.Min), RetryMax: time.Duration(d.Retry.Max), RetryFactor: d.Retry.Factor, RetryJitter: d.Retry.Jitter,
			TTL: time.Duration(d.TTL), DedupWindow: time.Duration(d.DedupWindow),
		},
	}
}

// clientsAt is the broker to which clients talk; tests have them talk to another node's (front.go).
var clientsAt = func(in *instance) (*broker.Broker, error) { return in.broker, nil }

// listen starts taking connections.
func (in *instance) listen() error {
	l, err := net.Listen("tcp", in.cfg.Listen)
	if err != nil {
		return fmt.Errorf("%w (another address: --listen)", err)
	}
	clients, err := clientsAt(in)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	opt := server.Options{
		Broker: clients, Log: in.log, MaxConnections: in.cfg.Limits.MaxConnections, Classic: in.cfg.Classic,
		Auth: in.auth, TLS: in.tls.forServer(), Cluster: in.node.member,
	}
	if in.audit != nil {
		opt.Audit = in.audit
	}
	in.server = server.New(opt)
	in.node.member.SetClient(clientAddress(&in.cfg, l.Addr()))
	if err := in.node.member.Start(); err != nil {
		return errors.Join(err, l.Close())
	}
	adminAddr := in.cfg.Admin
	if adminAddr != config.AdminOff {
		al, err := net.Listen("tcp", in.cfg.Admin)
		if err != nil {
			return errors.Join(fmt.Errorf("%w (another address, or off: --admin)", err), l.Close())
		}
		adminAddr = al.Addr().String()
		in.admin = admin.New(in, in.adminGate(), in.page(), in.log)
		go func() {
			if err := in.admin.Serve(in.tls.forAdmin(al, in.cfg.Admin)); err != nil {
				in.log.Error("admin address", "err", err)
			}
		}()
	}
	go func() {
		if err := in.server.Serve(l); err != nil {
			in.log.Error("client address", "err", err)
		}
	}()
	in.tables.startOutbox()
	in.log.Info("ready", in.tls.describe([]any{"version", version, "listen", l.Addr().String(), "admin", adminAddr, "data", in.cfg.Data, "storage", in.cfg.QueueDefaults.Storage})...)
	in.warnStart()
	notify("READY=1")
	return nil
}

// drain ends the server in good order, in drain_timeout at most.
func (in *instance) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(in.cfg.DrainTimeout))
	defer cancel()
	in.tables.stopOutbox(ctx)
	in.handOver(ctx)
	err := in.server.Drain(ctx)
	if in.admin != nil {
		err = errors.Join(err, in.admin.Shutdown(ctx))
	}
	err = errors.Join(err, in.close())
	if err == nil {
		in.log.Info("stopped")
	}
	return err
}

func (in *instance) close() error {
	return errors.Join(in.node.closeRelay(), in.broker.Close(), in.node.leave(), in.closeJournals())
}

// reload takes over what a running server can take over, all of it or nothing.
func (in *instance) reload() {
	if in.auditFile != nil { // somebody may have moved it away
		if err := in.auditFile.open(); err != nil {
			in.log.Error("audit log not opened anew", "err", err)
		}
	}
	cfg, err := in.load()
	if err != nil {
		in.log.Error("configuration not reloaded", "err", err)
		return
	}
	changed, needRestart := config.Diff(in.cfg, cfg)
	if len(needRestart) > 0 {
		in.log.Error("configuration not reloaded: these settings need a restart", "settings", needRestart)
		return
	}
	if err := in.tls.reload(cfg.TLS); err != nil {
		in.log.Error("configuration not reloaded", "err", err, "in_force", in.tls.certs.Current().String())
		return
	}
	in.cfg = cfg
	in.broker.SetLimits(limits(&cfg))
	in.server.SetMaxConnections(cfg.Limits.MaxConnections)
	in.budget.SetLimit(queueMemory(&cfg))
	in.auth.SetLimits(authLimits(&cfg))
	setLevel(in.level, cfg.Log.Level)
	in.log.Info("configuration reloaded", "changed", append([]string{}, changed...)) // none is [], not null
}

// Ready implements admin.Source.
func (in *instance) Ready() error {
	if in.broker.Draining() {
		return errors.New("draining")
	}
	return nil
}

// Stats implements admin.Source.
func (in *instance) Stats() admin.Stats { return in.stats(in.broker.Queues("")) }

func (in *instance) stats(queues []broker.QueueStats) admin.Stats {
	s := admin.Stats{Version: version, Node: in.nodeName(), Started: in.started, Requests: in.broker.Requests(), Errors: in.broker.Errors(), MemoryUsed: in.budget.Used(), MemoryLimit: in.budget.Limit()}
	s.TLS, s.AuditFailed, s.Audit = in.tlsStats(), in.auditFailures(), in.auditLog
	s.ProcessBytes = processBytes()
	s.DiskFree, s.DiskTotal = vfs.DiskSpace(in.dataDir)
	now, total := in.server.Connections()
	s.Connections, s.ConnectionsTotal = int(now), total
	s.MySQL, s.Outbox = in.tables.up(), in.outboxStats()
	for _, u := range in.broker.Usage() {
		if u.Storage == "file" {
			s.JournalBytes, s.JournalLiveBytes = u.Total, u.Live
		}
	}
	s.Groups = in.groupStats()
	s.Queues = make([]admin.QueueStats, 0, len(queues))
	for i := range queues {
		q := &queues[i]
		c := &q.Counts
		s.Queues = append(s.Queues, admin.QueueStats{
			Name: q.Name, Storage: q.Settings.Storage,
			Ready: uint64(c.Ready), Leased: uint64(c.Leased), Delayed: uint64(c.Delayed),
			Published: c.Published, Delivered: q.Delivered, Returned: q.Returned,
			Acked: c.Acked, Expired: c.Expired, Dead: c.Dead, Dropped: c.Dropped, Cancelled: c.Cancelled, Purged: c.Purged, Redriven: c.Redriven,
			Bytes: uint64(q.Bytes), OldestAgeSeconds: q.Oldest.Seconds(), Consumers: q.Consumers, Paused: q.Paused,
		})
	}
	in.tellLeaders(s.Queues)
	return s
}
