package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gmq/gmq/internal/journal/mysqljournal"
	"github.com/gmq/gmq/internal/journal/mysqljournal/tenure"
)

// The nodes of a cluster have the queues in MySQL in turn: who leads the first group on disks has the tables, and leads all others as well.

// gathered reports whether all groups are led by one node.
func (in *instance) gathered() bool {
	name, _ := in.node.member.Tables()
	return in.tables.holder != nil && name != ""
}

// mayLead reports whether a node may lead a group, as far as the tables have a say in it. Who leads the first group, or is about to, is not known for a moment
// after an election: then it makes no difference.
func (in *instance) mayLead(group int, node uint64) bool {
	if group == 0 || !in.gathered() {
		return true
	}
	all := in.node.host.Status()
	return len(all) == 0 || all[0].Leader == 0 || all[0].Leader == node
}

// sameStorages says what is wrong where this node's cluster has queues in MySQL, and this node cannot reach them, or the other way round.
func (in *instance) sameStorages() error {
	name, known := in.node.member.Tables()
	switch {
	case !known || len(in.node.others()) == 0:
	case name != "" && in.tables.holder == nil:
		return errors.New("this node's cluster has queues in MySQL, and every node must reach them: set storage.mysql as on the other nodes")
	case name == "" && in.tables.holder != nil:
		return errors.New("this node has storage.mysql, and its cluster was begun without queues in MySQL: leave it out")
	}
	return nil
}

// takeTurns has the tables follow who leads, until the node ends.
func (in *instance) takeTurns() {
	n := in.node
	n.over.Go(func() {
		tick := time.NewTicker(clusterTick)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := in.turn(); err != nil {
					in.failed <- err
					return
				}
			case <-n.stop:
				return
			}
		}
	})
}

// turn tells the holder of the tables who leads the first group: this node when it has all that was decided before, so that it knows whose tables the
// cluster's are.
func (in *instance) turn() error {
	if err := in.sameStorages(); err != nil {
		return err
	}
	h := in.tables.holder
	if h == nil || !in.node.member.Member() {
		return nil
	}
	leader, term := uint64(0), uint64(0)
	if all := in.node.host.Status(); len(all) > 0 {
		leader, term = all[0].Leader, all[0].Term
		if led := in.leaderOf(0); leader == in.node.member.ID() && (led != leader || !all[0].Leading) {
			leader = 0
		}
	}
	var unfit error
	if name, _ := in.node.member.Tables(); name == "" {
		unfit = errors.New("it is not known yet whose tables the cluster has")
	}
	h.Tick(leader, term, unfit)
	return nil
}

// openShared gets the tables for a node of a cluster. Those of another database are let alone.
func (in *instance) openShared(ctx context.Context, opt mysqljournal.Options) (tenure.Tables, error) {
	found, err := mysqljournal.Identify(ctx, opt.DSN)
	if err != nil {
		return nil, err
	}
	if name, _ := in.node.member.Tables(); found != name {
		return nil, errors.New("storage.mysql.dsn leads to another database than that of the cluster's queues; set it as on the other nodes")
	}
	j, err := mysqljournal.Open(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("storage.mysql.dsn: %w", err)
	}
	return j, nil
}
