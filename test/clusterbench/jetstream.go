package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	nc "github.com/nats-io/nats.go"
)

// natsCluster is three nodes of NATS. Queues are streams with three replicas in files, and every write is synced before it counts.
type natsCluster struct {
	nodes   []*process
	addrs   []string
	control nc.JetStreamContext
	names   []string
	leaders []int
	made    int
}

func (c *natsCluster) start(dir string) error {
	ports, err := freePorts(6)
	if err != nil {
		return err
	}
	routes := fmt.Sprintf("nats://127.0.0.1:%d, nats://127.0.0.1:%d, nats://127.0.0.1:%d", ports[3], ports[4], ports[5])
	for i := range 3 {
		name := fmt.Sprint("n", i+1)
		conf := fmt.Sprintf("server_name: %s\nlisten: 127.0.0.1:%d\ncluster { name: three, listen: 127.0.0.1:%d, routes: [%s] }\njetstream { store_dir: %q, sync_interval: always, max_file_store: 30GB }\n",
			name, ports[i], ports[3+i], routes, filepath.Join(dir, name))
		file := filepath.Join(dir, name+".conf")
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return err
		}
		p, err := spawn(dir, name, nil, *nats, "-c", file)
		if err != nil {
			return err
		}
		c.nodes, c.addrs = append(c.nodes, p), append(c.addrs, fmt.Sprintf("127.0.0.1:%d", ports[i]))
	}
	return until("the cluster takes streams", func() bool {
		con, err := nc.Connect(c.addrs[0])
		if err != nil {
			return false
		}
		if c.control, err = con.JetStream(); err == nil {
			_, err = c.control.AddStream(&nc.StreamConfig{Name: "first", Subjects: []string{"first"}, Replicas: 3})
		}
		if err != nil {
			con.Close()
		}
		return err == nil
	})
}

func (c *natsCluster) prepare(queues int) error {
	for _, name := range c.names {
		if err := c.control.DeleteStream(name); err != nil {
			return err
		}
	}
	c.names, c.leaders = nil, nil
	for range queues {
		c.made++
		name := fmt.Sprint("load-", c.made)
		if _, err := c.control.AddStream(&nc.StreamConfig{Name: name, Subjects: []string{name}, Replicas: 3, Storage: nc.FileStorage, Retention: nc.WorkQueuePolicy}); err != nil {
			return err
		}
		leader := -1
		err := until("somebody leads "+name, func() bool {
			info, err := c.control.StreamInfo(name)
			if err == nil && info.Cluster != nil && len(info.Cluster.Leader) == 2 {
				leader = int(info.Cluster.Leader[1] - '1')
			}
			return leader >= 0
		})
		if err != nil {
			return err
		}
		c.names, c.leaders = append(c.names, name), append(c.leaders, leader)
	}
	return nil
}

func (c *natsCluster) connect(entry string, first, _, size int) (conn, error) {
	p := &natsConn{body: []byte(strings.Repeat("x", size)), replies: make(chan *nc.Msg, 16384), ended: make(chan struct{})}
	for i := range c.names {
		k := (first + i) % len(c.names)
		to := 0
		switch entry {
		case "leader":
			to = c.leaders[k]
		case "other":
			to = (c.leaders[k] + 1) % 3
		}
		if p.cons[to] == nil {
			con, err := nc.Connect(c.addrs[to])
			if err != nil {
				return nil, err
			}
			p.cons[to], p.inbox[to] = con, con.NewInbox()
			if _, err := con.ChanSubscribe(p.inbox[to]+".*", p.replies); err != nil {
				return nil, err
			}
		}
		p.subjects, p.to = append(p.subjects, c.names[k]), append(p.to, to)
	}
	return p, nil
}

// natsConn publishes with an inbox of its own for each connection, and the number at its end: as the client's asynchronous publish does, and with less work.
type natsConn struct {
	cons     [3]*nc.Conn
	inbox    [3]string
	subjects []string
	to       []int
	next     int
	body     []byte
	replies  chan *nc.Msg
	ended    chan struct{}
}

func (p *natsConn) send(number int) error {
	i := p.next % len(p.subjects)
	p.next++
	return p.cons[p.to[i]].PublishRequest(p.subjects[i], p.inbox[p.to[i]]+"."+strconv.Itoa(number), p.body)
}

// flush does nothing: the client has a goroutine that writes what has gathered.
func (p *natsConn) flush() error { return nil }

func (p *natsConn) confirmed(into []int) ([]int, error) {
	var m *nc.Msg
	select {
	case m = <-p.replies:
	case <-p.ended:
		return into, fmt.Errorf("the connection is closed")
	case <-time.After(patience):
		return into, fmt.Errorf("no confirm within %v", patience)
	}
	for {
		if bytes.Contains(m.Data, []byte(`"error"`)) || !bytes.Contains(m.Data, []byte(`"seq"`)) {
			return into, fmt.Errorf("the server says %q", m.Data)
		}
		number, err := strconv.Atoi(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
		if err != nil {
			return into, err
		}
		into = append(into, number)
		select {
		case m = <-p.replies:
		default:
			return into, nil
		}
	}
}

func (p *natsConn) close() {
	if slices.ContainsFunc(p.cons[:], func(c *nc.Conn) bool { return c != nil && !c.IsClosed() }) {
		close(p.ended)
	}
	for _, c := range p.cons {
		if c != nil {
			c.Close()
		}
	}
}

func (c *natsCluster) processes() (pids []int) {
	for _, p := range c.nodes {
		pids = append(pids, p.pid())
	}
	return pids
}

func (c *natsCluster) stop() {
	for _, p := range c.nodes {
		p.stop()
	}
}
