// Package config is everything an operator can set: the names of the
// settings, their defaults and ranges, where they come from (flags, GMQ_*
// variables, a YAML file) and which of them a running server can take over.
//
// It does not know what a setting does. Rooms that are configured declare
// their own options; cmd/gmq copies from here to there.
package config

import "time"

// Config is the whole configuration, laid out as the YAML file is. The
// sections that are pointers are nil where nothing is said about them.
type Config struct {
	Listen        string        `yaml:"listen"`
	Admin         string        `yaml:"admin"` // an address, or AdminOff
	Data          string        `yaml:"data"`
	Classic       bool          `yaml:"classic"`
	Log           Log           `yaml:"log"`
	Limits        Limits        `yaml:"limits"`
	QueueDefaults QueueDefaults `yaml:"queue_defaults"`
	Storage       Storage       `yaml:"storage"`
	TLS           *TLS          `yaml:"tls,omitempty"`
	Auth          Auth          `yaml:"auth"`
	Cluster       *Cluster      `yaml:"cluster,omitempty"`
	DrainTimeout  Duration      `yaml:"drain_timeout"`

	// Insecure allows to listen beyond loopback without TLS and
	// authentication. It is a flag only: a file that is copied to another
	// machine must not carry it along.
	Insecure bool `yaml:"-"`
}

// AdminOff is the admin address that means: none.
const AdminOff = "off"

// Log says how much is logged, and in which form.
type Log struct {
	Level  string `yaml:"level"`  // debug | info | warn | error
	Format string `yaml:"format"` // auto | text | json
	Audit  string `yaml:"audit"`  // AuditLog, AuditOff, or a file
}

// Where the audit log may go, if not into a file: among the other records, or nowhere.
const (
	AuditLog = "log"
	AuditOff = "off"
)

// Limits bound what clients can make the server hold.
type Limits struct {
	MaxQueues       int  `yaml:"max_queues"`
	MaxMessageBytes Size `yaml:"max_message_bytes"` // of one body
	MaxConnections  int  `yaml:"max_connections"`
	MaxInFlight     int  `yaml:"max_in_flight"` // leased messages, all queues
	Memory          Size `yaml:"memory"`        // cached bodies, and those of memory queues

	// By address and by user; 0 is no limit.
	MaxConnectionsPerAddress int `yaml:"max_connections_per_address"`
	MaxConnectionsPerUser    int `yaml:"max_connections_per_user"`
	MaxRatePerAddress        int `yaml:"max_rate_per_address"` // requests a second
	MaxRatePerUser           int `yaml:"max_rate_per_user"`
}

// QueueDefaults are the settings that a queue gets when it is created and
// nothing else is said. Zero in MaxMessages, MaxBytes, MaxDeliveries and TTL is no limit.
type QueueDefaults struct {
	Storage       string   `yaml:"storage"` // file | memory | mysql
	MaxMessages   int64    `yaml:"max_messages"`
	MaxBytes      Size     `yaml:"max_bytes"`
	Overflow      string   `yaml:"overflow"` // reject | drop_oldest | dead_letter
	Lease         Duration `yaml:"lease"`
	MaxDeliveries int      `yaml:"max_deliveries"`
	Retry         Retry    `yaml:"retry"`
	TTL           Duration `yaml:"ttl"`
	DedupWindow   Duration `yaml:"dedup_window"`
	AutoCreate    bool     `yaml:"auto_create"`
}

// Retry is how long a message waits after a failed delivery.
type Retry struct {
	Min    Duration `yaml:"min"`
	Max    Duration `yaml:"max"`
	Factor float64  `yaml:"factor"`
	Jitter float64  `yaml:"jitter"` // 0.2 is ±20 %
}

// Storage configures the storages; MySQL is enabled by being there.
type Storage struct {
	File  File   `yaml:"file"`
	MySQL *MySQL `yaml:"mysql,omitempty"`
}

// File configures the storage in files.
type File struct {
	Sync string `yaml:"sync"` // always | never
}

// MySQL configures the storage in tables.
type MySQL struct {
	DSN      string   `yaml:"dsn"`
	Outbox   bool     `yaml:"outbox"`
	Takeover Duration `yaml:"takeover"` // an owner of the tables that was silent for so long is taken to be gone
}

const defaultTakeover = Duration(10 * time.Second)

// TLS names the files with the server's certificate, and says who may do without.
type TLS struct {
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	ClientCA   string `yaml:"client_ca"`
	ClientCert string `yaml:"client_cert"` // required | optional; of no meaning without ClientCA
	Required   bool   `yaml:"required"`
	MinVersion string `yaml:"min_version"` // 1.3 | 1.2
}

// Auth says whether clients must say who they are.
type Auth struct {
	Required bool `yaml:"required"`
}

// Cluster is the server's part in a cluster, where it has one: that it has says not the configuration, but gmq serve --join or gmq
// cluster token. Members gives the defaults.
type Cluster struct {
	Node      string `yaml:"node"`      // "": the cluster gives one
	Listen    string `yaml:"listen"`    // for other nodes; "": 127.0.0.1 and the port of clients plus two
	Advertise string `yaml:"advertise"` // where they reach it; "": where it listens
	Replicas  int    `yaml:"replicas"`  // at how many nodes each queue is; 0: as the cluster has it, 3 in a new one
}

// Default is the configuration of a server that was told nothing.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:4567",
		Admin:  "127.0.0.1:4580",
		Data:   "./gmq-data",
		Log:    Log{Level: "info", Format: "auto", Audit: AuditLog},
		Limits: Limits{
			MaxQueues:       4096,
			MaxMessageBytes: MiB,
			MaxConnections:  10_000,
			MaxInFlight:     1_000_000,
			Memory:          GiB,
		},
		QueueDefaults: QueueDefaults{
			Storage:       "file",
			Overflow:      "reject",
			Lease:         Duration(30 * time.Second),
			MaxDeliveries: 10,
			Retry: Retry{
				Min:    Duration(time.Second),
				Max:    Duration(5 * time.Minute),
				Factor: 2,
				Jitter: 0.2,
			},
			DedupWindow: Duration(5 * time.Minute),
			AutoCreate:  true,
		},
		Storage:      Storage{File: File{Sync: "always"}},
		DrainTimeout: Duration(10 * time.Second),
	}
}
