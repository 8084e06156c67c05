package gmq

import (
	"context"
	"time"
)

// A ClusterNode is a node of a cluster.
type ClusterNode struct {
	Name      string `json:"name"`
	ID        string `json:"id"`
	Address   string `json:"address"` // where other nodes reach it
	Client    string `json:"client"`  // where clients do
	State     string `json:"state"`   // alone, joining, member or leaving
	Reachable bool   `json:"reachable"`
	Leads     int    `json:"leads"`  // groups
	Behind    uint64 `json:"behind"` // entries that it lacks, of all groups, as far as leaders know
	Version   string `json:"version,omitempty"`
}

// A ClusterGroup is a part of the queues, and who keeps it.
type ClusterGroup struct {
	Group    int      `json:"group"`
	Leader   string   `json:"leader,omitempty"` // "": nobody leads
	Term     uint64   `json:"term"`
	Members  []string `json:"members"`
	Learners []string `json:"learners,omitempty"` // who are catching up
}

// A ClusterStatus is how a cluster is.
type ClusterStatus struct {
	Node     string         `json:"node"`            // who has answered
	Replicas int            `json:"replicas"`        // at how many nodes each queue is to be
	MySQL    string         `json:"mysql,omitempty"` // the node that has the queues in MySQL, where there are some
	Nodes    []ClusterNode  `json:"nodes"`
	Groups   []ClusterGroup `json:"groups"`
}

// JoinToken makes a token with which one more node can join, and makes a cluster of a server that is alone. It holds for an hour, or for ttl
// where that is not 0.
func (c *Client) JoinToken(ctx context.Context, ttl time.Duration) (token string, expires time.Time, err error) {
	b := []byte(`,"op":"cluster.token"`)
	if ttl != 0 {
		b = appendDuration(b, "ttl", ttl)
	}
	var out struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires"`
	}
	err = c.ask(ctx, b, true, &out) // a token that nobody has heard of ends by itself
	return out.Token, out.Expires, err
}

// ClusterStatus says which nodes there are, and how they are.
func (c *Client) ClusterStatus(ctx context.Context) (ClusterStatus, error) {
	var s ClusterStatus
	err := c.ask(ctx, []byte(`,"op":"cluster.status"`), true, &s)
	return s, err
}

// RemoveNode begins to take a node out, by its name or its id. It has ended when ClusterStatus does not show the node any more.
func (c *Client) RemoveNode(ctx context.Context, node string) error {
	return c.ask(ctx, appendText([]byte(`,"op":"cluster.remove"`), "name", node), true, nil)
}

// TransferLeads has a node lead nothing for ten minutes, the others taking over: before it is stopped, say. Without a name it is the
// node that this client is connected to. It returns the node's name.
func (c *Client) TransferLeads(ctx context.Context, node string) (string, error) {
	b := []byte(`,"op":"cluster.transfer"`)
	if node != "" {
		b = appendText(b, "name", node)
	}
	var out struct {
		Name string `json:"name"`
	}
	err := c.ask(ctx, b, true, &out)
	return out.Name, err
}
