package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	gmq "github.com/gmq/gmq/client"
)

// gmqCluster is three nodes of GMQ. Queues are in files, so a confirm says that a majority has fsynced the message.
type gmqCluster struct {
	nodes   []*process
	addrs   []string
	control *gmq.Client
	names   []string
	leaders []int // of names
	made    int
}

func (c *gmqCluster) start(dir string) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	token := ""
	for i := range 3 {
		addr := fmt.Sprintf("127.0.0.1:%d", ports[i])
		args := []string{"serve", "--data", filepath.Join(dir, fmt.Sprint("n", i+1)), "--listen", addr, "--admin", "off"}
		if token != "" {
			args = append(args, "--join", token)
		}
		p, err := spawn(dir, fmt.Sprint("n", i+1), nil, *exe, args...)
		if err != nil {
			return err
		}
		c.nodes, c.addrs = append(c.nodes, p), append(c.addrs, addr)
		if err := until("node "+fmt.Sprint(i+1)+" listens", func() bool { return answers(addr) }); err != nil {
			return err
		}
		if i == 0 {
			if c.control, err = gmq.Dial(context.Background(), addr); err != nil {
				return err
			}
		}
		if err := until("all are members and lead", func() bool { return i == 0 || c.settled(i+1) }); err != nil {
			return err
		}
		if token, _, err = c.control.JoinToken(context.Background(), 0); err != nil {
			return err
		}
	}
	if *hold {
		fmt.Println("nodes:", strings.Join(c.addrs, " "), "processes:", c.processes())
	}
	return nil
}

// answers reports whether somebody listens.
func answers(addr string) bool {
	nc, err := net.Dial("tcp", addr)
	if err == nil {
		nc.Close()
	}
	return err == nil
}

// settled reports whether so many nodes are members of all groups, and leads are spread evenly.
func (c *gmqCluster) settled(nodes int) bool {
	s, err := c.control.ClusterStatus(context.Background())
	if err != nil || len(s.Nodes) != nodes {
		return false
	}
	leads := map[string]int{}
	for _, g := range s.Groups {
		if g.Leader == "" || len(g.Members) != nodes || len(g.Learners) > 0 {
			return false
		}
		leads[g.Leader]++
	}
	for _, n := range s.Nodes {
		if n.State != "member" || leads[n.Name] < len(s.Groups)/nodes {
			return false
		}
	}
	return true
}

// prepare makes names that lie in different shards, as far as there are so many.
func (c *gmqCluster) prepare(queues int) error {
	s, err := c.control.ClusterStatus(context.Background())
	if err != nil {
		return err
	}
	for _, name := range c.names {
		if err := c.control.DeleteQueue(context.Background(), name); err != nil {
			return err
		}
	}
	c.names, c.leaders = nil, nil
	for len(c.names) < queues {
		c.made++
		name := fmt.Sprint("load-", c.made)
		shard := shardOf(name, len(s.Groups))
		if shard != len(c.names)%len(s.Groups) {
			continue
		}
		at := slices.IndexFunc(s.Nodes, func(n gmq.ClusterNode) bool { return n.Name == s.Groups[shard].Leader })
		c.names, c.leaders = append(c.names, name), append(c.leaders, slices.Index(c.addrs, s.Nodes[at].Client))
		if err := c.control.CreateQueue(context.Background(), name, gmq.Settings{Storage: "file"}); err != nil {
			return err
		}
	}
	return nil
}

// shardOf is how the server spreads names over its groups (FNV-1a, folded).
func shardOf(name string, groups int) int {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return int((h ^ h>>32) % uint64(groups))
}

func (c *gmqCluster) connect(entry string, first, batch, size int) (conn, error) {
	p := &gmqConn{replies: make(chan []int, 64), failed: make(chan error, 8)}
	for i := range c.names {
		name := c.names[(first+i)%len(c.names)]
		to := 0
		switch leader := c.leaders[(first+i)%len(c.names)]; entry {
		case "leader":
			to = leader
		case "other":
			to = (leader + 1) % 3
		}
		if p.socks[to] == nil {
			nc, err := net.Dial("tcp", c.addrs[to])
			if err != nil {
				return nil, err
			}
			p.socks[to] = &gmqSock{nc: nc}
		}
		head := fmt.Sprintf(`{"op":"publish","queue":%q,"create":false,"stored":"quorum","id":`, name)
		p.targets = append(p.targets, gmqTarget{p.socks[to], []byte(head)})
	}
	body := strings.Repeat("x", size-2)
	p.tail = fmt.Sprintf(`,"body":"%s"}`+"\n", body)
	if batch > 1 {
		p.tail = `,"messages":[` + strings.Repeat(fmt.Sprintf(`,{"body":"%s"}`, body), batch)[1:] + "]}\n"
	}
	for _, s := range p.socks {
		if s != nil {
			p.over.Go(func() { p.failed <- s.read(p.replies) })
		}
	}
	return p, nil
}

// gmqConn speaks the protocol itself: what is measured is the server. Where its queues are led by several nodes it has a connection to each, as a
// client has that goes straight to leaders.
type gmqConn struct {
	socks   [3]*gmqSock
	targets []gmqTarget
	next    int
	tail    string
	replies chan []int
	failed  chan error
	over    sync.WaitGroup
}

type gmqTarget struct {
	s    *gmqSock
	head []byte
}

type gmqSock struct {
	nc  net.Conn
	out []byte
}

func (p *gmqConn) send(number int) error {
	t := &p.targets[p.next%len(p.targets)]
	p.next++
	t.s.out = append(strconv.AppendInt(append(t.s.out, t.head...), int64(number), 10), p.tail...)
	return nil
}

func (p *gmqConn) flush() error {
	for _, s := range p.socks {
		if s == nil || len(s.out) == 0 {
			continue
		}
		_, err := s.nc.Write(s.out)
		s.out = s.out[:0]
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *gmqConn) confirmed(into []int) ([]int, error) {
	select {
	case numbers := <-p.replies:
		return append(into, numbers...), nil
	case err := <-p.failed:
		return into, err
	}
}

func (p *gmqConn) close() {
	for _, s := range p.socks {
		if s != nil {
			s.nc.Close()
		}
	}
}

var replyHead, replyOK = []byte(`{"id":`), []byte(`,"ok":true`)

func (s *gmqSock) read(replies chan<- []int) error {
	buf, n := make([]byte, 256<<10), 0
	for {
		m, err := s.nc.Read(buf[n:])
		if err != nil {
			return err
		}
		n += m
		var numbers []int
		rest := buf[:n]
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				break
			}
			line := rest[:end]
			rest = rest[end+1:]
			number, k := 0, len(replyHead)
			for ; k < len(line) && line[k] >= '0' && line[k] <= '9'; k++ {
				number = number*10 + int(line[k]-'0')
			}
			if !bytes.HasPrefix(line, replyHead) || !bytes.HasPrefix(line[k:], replyOK) {
				return fmt.Errorf("the server says %q", line)
			}
			numbers = append(numbers, number)
		}
		n = copy(buf, rest)
		if len(numbers) > 0 {
			replies <- numbers
		}
	}
}

func (c *gmqCluster) processes() (pids []int) {
	for _, p := range c.nodes {
		pids = append(pids, p.pid())
	}
	return pids
}

func (c *gmqCluster) stop() {
	if c.control != nil {
		c.control.Close()
	}
	for _, p := range c.nodes {
		p.stop()
	}
}
