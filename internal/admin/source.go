// Package admin is the HTTP side of a server, for operators and their tools:
// whether it lives, whether it is ready, its metrics, and a backup of it.
//
// It knows HTTP and metric names. It does not know the broker: what there is
// to tell comes through Source, which cmd/gmq puts in front of it.
package admin

import (
	"context"
	"io"
	"time"
)

// A Source is whatever has something to tell. Its methods are called from
// many goroutines, once per HTTP request.
type Source interface {
	// Ready is nil where the server takes work, else the reason why not.
	Ready() error
	// Stats is how things stand now.
	Stats() Stats
	// Backup writes a backup of all that is on the disk. It may take long; ctx ends it.
	Backup(ctx context.Context, w io.Writer) error
}

// Stats is one look at a server. What only grows is counted since the server
// started, or longer where it survives restarts.
type Stats struct {
	Version string
	Node    string
	Started time.Time

	Connections      int
	ConnectionsTotal uint64
	Requests         map[string]uint64 // by op
	Errors           map[string]uint64 // by code

	Queues []QueueStats // names are unique; the order is of no matter

	JournalBytes     int64 // what the journals take on their disks
	JournalLiveBytes int64 // how much of it is still needed
	MemoryUsed       int64 // bodies in memory
	MemoryLimit      int64
	MySQL            *bool // whether the database of the queues in MySQL takes anything; nil: none is configured

	ProcessBytes        int64 // what the process has of the machine's memory
	DiskFree, DiskTotal int64 // of the file system with the data; both 0 where that cannot be known

	Outbox *OutboxStats // nil: rows of gmq_outbox are not moved

	Audit       string // where audit records go: log, off, or a file
	AuditFailed uint64 // audit records that could not be written

	Groups  *GroupStats   // of queues, as this node sees them; nil where the server is alone
	Cluster *ClusterStats // as its nodes say; nil where the server is alone, and where nobody was asked

	TLS *TLSStats // nil without TLS
}

// GroupStats is one look at the groups of queues of a cluster, of which each has a leader.
type GroupStats struct {
	Leading, Following, Leaderless int
	Away                           map[string]int // by the name of a node: in how many of the groups that are led here it is not heard
}

// ClusterStats is one look at a cluster.
type ClusterStats struct {
	Replicas int // at how many nodes each queue is to be
	Nodes    []NodeStats
	Groups   []Group
}

// NodeStats is one look at a node of a cluster.
type NodeStats struct {
	Name      string
	Address   string // for clients
	Internal  string // for other nodes
	State     string // joining, member or leaving
	Reachable bool
	Leads     int    // how many of the groups it leads
	Behind    uint64 // entries that it lacks, as far as leaders know
	Version   string // where it was reached
	Here      bool   // it is the one that was asked
}

// Group is one look at a group of queues.
type Group struct {
	Number            int
	Leader            string // "" where nobody leads it
	Term              uint64
	Members, Learners []string
}

// OutboxStats is what has become of rows of gmq_outbox since the start.
type OutboxStats struct {
	Published, Refused uint64
	Held               int // queues and topics that take none at the moment
}

// TLSStats is one look at the TLS of a server.
type TLSStats struct {
	Expiry        time.Time // of the certificate in force
	ReloadsFailed uint64
	Handshakes    map[string]uint64 // by how they ended
}

// QueueStats is one look at a queue.
type QueueStats struct {
	Name    string
	Storage string

	Ready, Leased, Delayed uint64

	// How often each of these has happened to a message.
	Published, Delivered, Returned                             uint64
	Acked, Expired, Dead, Dropped, Cancelled, Purged, Redriven uint64

	Bytes            uint64
	OldestAgeSeconds float64
	Consumers        int
	Paused           bool

	Leader string // the node of the cluster that leads it, "nobody"; "" is this one
}
