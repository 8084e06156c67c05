package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// replicaCounts are the numbers of nodes that make sense: another node in between survives no more losses and has more to wait for.
var replicaCounts = []int{1, 3, 5}

// Members are the settings of a node's part in a cluster, with defaults for what nothing is said about. Replicas stays 0 there: the
// cluster knows.
func (c *Config) Members() Cluster {
	m := Cluster{}
	if c.Cluster != nil {
		m = *c.Cluster
	}
	if m.Listen == "" {
		m.Listen = c.nodesAddress()
	}
	return m
}

// nodesAddress is two ports above that of clients, on this machine only.
func (c *Config) nodesAddress() string {
	port := 0
	if _, text, err := net.SplitHostPort(c.Listen); err == nil {
		if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 1<<16-2 {
			port = n + 2
		}
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func (c *Config) clusterProblems() []problem {
	m := c.Cluster
	if m == nil {
		return nil
	}
	var all []problem
	if m.Node != "" && (len(m.Node) > 63 || strings.Trim(m.Node, nodeLetters) != "" || m.Node[0] == '-') {
		all = append(all, problem{"cluster.node", fmt.Sprintf("%q is no name; want 1 to 63 of A-Z a-z 0-9 . _ - @ : / +, not - first", m.Node)})
	}
	if m.Replicas != 0 && !slices.Contains(replicaCounts, m.Replicas) {
		text := fmt.Sprintf("%d is none of 1, 3, 5", m.Replicas)
		if m.Replicas == 2 || m.Replicas == 4 {
			text += fmt.Sprintf("; %d nodes survive the loss of no more of them than %d do", m.Replicas, m.Replicas-1)
		}
		all = append(all, problem{"cluster.replicas", text})
	}
	listen := c.Members().Listen
	host, err := splitAddress(listen)
	switch {
	case err != nil:
		all = append(all, problem{"cluster.listen", fmt.Sprintf("%q is no address; want host:port such as 10.0.0.1:4569", listen)})
	case (listen == c.Listen || listen == c.Admin) && !strings.HasSuffix(listen, ":0"):
		all = append(all, problem{"cluster.listen", listen + " is the address of clients or of the admin pages too; each needs its own"})
	case m.Advertise == "" && everywhere(host):
		all = append(all, problem{"cluster.advertise", fmt.Sprintf("is missing: %s is where this node listens, and nowhere that others can connect to; want host:port as other nodes reach it", listen)})
	}
	if m.Advertise != "" {
		host, err := splitAddress(m.Advertise)
		if err != nil || everywhere(host) || strings.HasSuffix(m.Advertise, ":0") {
			all = append(all, problem{"cluster.advertise", fmt.Sprintf("%q is nowhere that other nodes can connect to; want host:port such as 10.0.0.1:4569", m.Advertise)})
		}
	}
	return all
}

const nodeLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@:/+"

// everywhere reports whether a host stands for all interfaces.
func everywhere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
