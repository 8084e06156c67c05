//go:build front

package main

import (
	"context"
	"errors"
	"net"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/relay"
)

// A server that is built with the tag front serves its clients at a second node, in the same process, which leads nothing: all that tests
// of the protocol ask of it goes through lines between nodes (make front).

const frontID = 1 << 40

// A led journal is that of a shard which another node leads.
type led struct {
	*journal.Memory
	leader uint64
}

// Role implements journal.Replicated.
func (l led) Role() journal.Role { return journal.Role{Leader: l.leader} }

// Image implements journal.Replicated.
func (l led) Image() journal.Image { return nil }

var _ journal.Replicated = led{}

type only []uint64

// Nodes implements broker.Peers.
func (o only) Nodes() []uint64 { return o }

func init() {
	clientsAt = func(in *instance) (*broker.Broker, error) {
		leader, node := in.broker, in.node.member.ID()
		open := func(_ int, wake func()) journal.Journal {
			return led{journal.NewMemory(in.budget, wake), node}
		}
		storages := []broker.Storage{
			{Name: "file", Stored: "disk", Replicated: true, Open: open},
			{Name: "memory", Stored: "memory", Room: in.budget.Room, Open: func(_ int, wake func()) journal.Journal { return journal.NewMemory(in.budget, wake) }},
		}
		for _, s := range in.mysqlStorages() {
			storages = append(storages, broker.Storage{Name: s.Name, Stored: s.Stored, Remote: true, Open: open, Replicated: true})
		}
		front, err := broker.Start(broker.Options{
			Version: version, Node: in.node.member.Name(), ID: frontID, Peers: only{node}, Limits: limits(&in.cfg), Boot: 1, Storages: storages,
			Fail: func(err error) { in.failed <- err },
		})
		if err != nil {
			return nil, err
		}
		back := relay.New(relay.Options{
			Nodes: func() []uint64 { return nil },
			Accept: func(node uint64, l *relay.Line) (func([]byte), func()) {
				g := leader.Accept(node, l)
				return g.Receive, g.Close
			},
		})
		up := make(chan struct{}, 1)
		relay.New(relay.Options{
			Nodes: func() []uint64 { return []uint64{node} },
			Dial: func(context.Context, uint64) (net.Conn, error) {
				here, there := net.Pipe()
				go back.Serve(there, frontID)
				return here, nil
			},
			Up: func(node uint64, l *relay.Line) (func([]byte), func()) {
				c := front.LineUp(node, l)
				up <- struct{}{}
				return c.Receive, c.Close
			},
		})
		<-up
		if _, here := front.Leader(0); here {
			return nil, errors.New("the front leads")
		}
		return front, nil
	}
}
