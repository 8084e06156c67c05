package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rabbitmq/amqp091-go"
)

// rabbitCluster is three nodes of RabbitMQ with quorum queues, whose confirms come when a majority has fsynced.
type rabbitCluster struct {
	epmd    *process
	nodes   []*process
	env     [][]string
	addrs   []string
	names   []string
	leaders []int
	made    int
}

func (c *rabbitCluster) start(dir string) error {
	ports, err := freePorts(7)
	if err != nil {
		return err
	}
	cookie := filepath.Join(dir, ".erlang.cookie")
	if err := os.WriteFile(cookie, []byte("clusterbench"), 0o400); err != nil {
		return err
	}
	plugins := filepath.Join(dir, "enabled_plugins")
	if err := os.WriteFile(plugins, []byte("[].\n"), 0o600); err != nil {
		return err
	}
	if c.epmd, err = spawn(dir, "epmd", nil, "epmd", "-port", fmt.Sprint(ports[6]), "-address", "127.0.0.1"); err != nil {
		return err
	}
	conf := filepath.Join(dir, "rabbitmq.conf")
	text := "log.file.level = error\ncluster_formation.peer_discovery_backend = classic_config\nqueue_leader_locator = client-local\n" +
		"cluster_formation.randomized_startup_delay_range.min = 0\ncluster_formation.randomized_startup_delay_range.max = 1\n" // else up to a minute
	for i := range 3 {
		text += fmt.Sprintf("cluster_formation.classic_config.nodes.%d = n%d@localhost\n", i+1, i+1)
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	for i := range 3 {
		name := fmt.Sprint("n", i+1)
		env := []string{
			"HOME=" + dir, "ERL_EPMD_PORT=" + fmt.Sprint(ports[6]), "ERL_EPMD_ADDRESS=127.0.0.1",
			"RABBITMQ_NODENAME=" + name + "@localhost", "RABBITMQ_NODE_PORT=" + fmt.Sprint(ports[i]), "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
			"RABBITMQ_DIST_PORT=" + fmt.Sprint(ports[3+i]), "RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, name), "RABBITMQ_LOG_BASE=" + filepath.Join(dir, name+"-log"),
			"RABBITMQ_CONFIG_FILE=" + conf, "RABBITMQ_CONF_ENV_FILE=" + filepath.Join(dir, "none"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins,
			"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		}
		p, err := spawn(dir, name, env, *rabbit)
		if err != nil {
			return err
		}
		c.nodes, c.env, c.addrs = append(c.nodes, p), append(c.env, env), append(c.addrs, fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/", ports[i]))
		if err := c.await(i + 1); err != nil { // one after the other, or each begins a cluster of its own
			return err
		}
	}
	return nil
}

// await waits until so many nodes are a cluster.
func (c *rabbitCluster) await(nodes int) error {
	said := ""
	err := until(fmt.Sprintf("%d nodes are a cluster", nodes), func() bool {
		cmd := exec.Command(filepath.Join(filepath.Dir(*rabbit), "rabbitmqctl"), "-n", "n1@localhost", "eval", "length(rabbit_mnesia:cluster_nodes(running)).")
		cmd.Env = append(os.Environ(), c.env[0]...)
		out, err := cmd.CombinedOutput()
		said = string(out)
		return err == nil && strings.TrimSpace(said) == fmt.Sprint(nodes)
	})
	if err != nil {
		return fmt.Errorf("%w; the last word was %q", err, said)
	}
	return nil
}

// prepare declares queues at the nodes in turn, each of which leads what was declared there.
func (c *rabbitCluster) prepare(queues int) error {
	var cons [3]*amqp091.Connection
	for i, addr := range c.addrs {
		con, err := amqp091.Dial(addr)
		if err != nil {
			return err
		}
		defer con.Close()
		cons[i] = con
	}
	ch, err := cons[0].Channel()
	if err != nil {
		return err
	}
	for _, name := range c.names {
		if _, err := ch.QueueDelete(name, false, false, false); err != nil {
			return err
		}
	}
	c.names, c.leaders = nil, nil
	for i := range queues {
		c.made++
		name, leader := fmt.Sprint("load-", c.made), i%3
		ch, err := cons[leader].Channel()
		if err != nil {
			return err
		}
		args := amqp091.Table{"x-queue-type": "quorum", "x-quorum-initial-group-size": 3, "x-queue-leader-locator": "client-local"}
		if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
			return err
		}
		c.names, c.leaders = append(c.names, name), append(c.leaders, leader)
	}
	return nil
}

func (c *rabbitCluster) connect(entry string, first, _, size int) (conn, error) {
	p := &rabbitConn{body: []byte(strings.Repeat("x", size)), ended: make(chan struct{}), confirms: make(chan int, 16384)}
	for i := range c.names {
		k := (first + i) % len(c.names)
		to := 0
		switch entry {
		case "leader":
			to = c.leaders[k]
		case "other":
			to = (c.leaders[k] + 1) % 3
		}
		if p.socks[to] == nil {
			con, err := amqp091.Dial(c.addrs[to])
			if err != nil {
				return nil, err
			}
			ch, err := con.Channel()
			if err == nil {
				err = ch.Confirm(false)
			}
			if err != nil {
				return nil, err
			}
			s := &rabbitSock{con: con, ch: ch}
			acks := ch.NotifyPublish(make(chan amqp091.Confirmation, 16384))
			go s.read(acks, p)
			p.socks[to] = s
		}
		p.queues, p.to = append(p.queues, c.names[k]), append(p.to, to)
	}
	return p, nil
}

type rabbitConn struct {
	socks    [3]*rabbitSock
	queues   []string
	to       []int
	next     int
	body     []byte
	confirms chan int
	ended    chan struct{}
}

// rabbitSock is one connection, whose confirms come in the order of its publishes.
type rabbitSock struct {
	con *amqp091.Connection
	ch  *amqp091.Channel

	mu   sync.Mutex // guards the following
	sent []int
}

func (s *rabbitSock) read(acks <-chan amqp091.Confirmation, p *rabbitConn) {
	for a := range acks {
		if !a.Ack {
			fmt.Fprintln(os.Stderr, "a publish was refused")
			return
		}
		s.mu.Lock()
		number := s.sent[0]
		s.sent = s.sent[1:]
		s.mu.Unlock()
		p.confirms <- number
	}
}

func (p *rabbitConn) send(number int) error {
	i := p.next % len(p.queues)
	p.next++
	s := p.socks[p.to[i]]
	s.mu.Lock()
	s.sent = append(s.sent, number)
	s.mu.Unlock()
	return s.ch.PublishWithContext(context.Background(), "", p.queues[i], false, false, amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: p.body})
}

func (p *rabbitConn) flush() error { return nil }

func (p *rabbitConn) confirmed(into []int) ([]int, error) {
	select {
	case n := <-p.confirms:
		into = append(into, n)
	case <-p.ended:
		return into, errors.New("the connection is closed")
	}
	for {
		select {
		case n := <-p.confirms:
			into = append(into, n)
		default:
			return into, nil
		}
	}
}

func (p *rabbitConn) close() {
	for _, s := range p.socks {
		if s != nil && !s.con.IsClosed() {
			s.con.Close()
		}
	}
	select {
	case <-p.ended:
	default:
		close(p.ended)
	}
}

// processes are the nodes' virtual machines: what was started is a script that becomes one, or has it as a child.
func (c *rabbitCluster) processes() (pids []int) {
	for _, p := range c.nodes {
		pids = append(pids, busiest(p.pid()))
	}
	return pids
}

// busiest is the process with the most processor time of those in a group.
func busiest(group int) int {
	best, most := group, int64(-1)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		var pgrp int
		fmt.Sscan(fields[2], &pgrp)
		if used := int64(cpuOf(name)); pgrp == group && used > most {
			most = used
			fmt.Sscanf(name, "/proc/%d/stat", &best)
		}
	}
	return best
}

func (c *rabbitCluster) stop() {
	for _, p := range c.nodes {
		p.stop()
	}
	if c.epmd != nil {
		c.epmd.stop()
	}
}
