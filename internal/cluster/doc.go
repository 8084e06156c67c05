// Package cluster is Raft as a journal: a group for each shard, all groups of a node over that node's one log.
//
// It owns what is in a group's log and who leads it: the marks that make batches of records entries (mark.go), what of
// the log counts after a restart (replay.go), the groups and their raft (group.go, storage.go), the host that steps all groups of
// a node (host.go), what nodes say to each other (packet.go), and the journal that a shard's owner sees (journal.go).
//
// The host has no goroutine, no clock and no network: its owner calls Turn when it was woken, Tick as time passes, and Deliver with
// what other nodes have sent. So a simulation runs the code that production runs (loop.go).
//
// It does not know what a record means, how a node's log keeps it, nor how packets travel. Consensus itself is go.etcd.io/raft.
package cluster
