package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// settings are of one run.
type settings struct {
	broker        string
	queues, batch int
	entry         string
	conns, window int
	size          int
	duration      time.Duration
}

const header = "broker     queues entry   batch |   msgs/s |   p50 ms   p99 ms | nodes' cpu µs/msg (each)          | load µs/msg | flushes/s | others' cpu"

// A result is what a run has found out.
type result struct {
	settings
	messages int64
	took     time.Duration
	lat      []uint32 // µs of each publish
	nodes    []time.Duration
	self     time.Duration
	busy     time.Duration // of the whole machine
	flushes  int64         // that the machine's disks were asked for
}

func (r *result) String() string {
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(max(r.messages, 1)) }
	total, each := time.Duration(0), []string{}
	for _, n := range r.nodes {
		total += n
		each = append(each, fmt.Sprintf("%.2f", per(n)))
	}
	slices.Sort(r.lat)
	at := func(q float64) float64 {
		if len(r.lat) == 0 {
			return 0
		}
		return float64(r.lat[int(q*float64(len(r.lat)-1))]) / 1e3
	}
	others := r.busy - total - r.self
	return fmt.Sprintf("%-10s %6d %-7s %5d | %8.0f | %8.2f %8.2f | %6.2f (%s)%s| %11.2f | %9.0f | %.2f cores",
		r.broker, r.queues, r.entry, r.batch, float64(r.messages)/r.took.Seconds(), at(0.5), at(0.99), per(total), strings.Join(each, " "),
		strings.Repeat(" ", max(0, 26-len(strings.Join(each, " ")))), per(r.self), float64(r.flushes)/r.took.Seconds(), max(0, others.Seconds()/r.took.Seconds()))
}

// A publisher is a connection and the numbers of what is on its way.
type publisher struct {
	c     conn
	batch int
	sent  []time.Time // by number
	wake  chan struct{}

	mu   sync.Mutex // guards the following
	free []int
}

// run loads the cluster and measures. Nothing is consumed: the queues are new in each run.
func (s settings) run(c cluster) (*result, error) {
	if err := c.prepare(s.queues); err != nil {
		return nil, err
	}
	l := &load{failed: make(chan error, 2*s.conns)}
	err := l.begin(s, c)
	if err == nil {
		err = l.wait(time.Second)
	}
	r := &result{settings: s}
	profiled := func() {}
	if err == nil {
		if *profile != "" {
			profiled = record(filepath.Join(*profile, fmt.Sprintf("%s-q%d-%s-b%d", s.broker, s.queues, s.entry, s.batch)), c.processes(), s.duration)
		}
		before := usageOf(c.processes())
		started := time.Now()
		l.measuring.Store(true)
		err = l.wait(s.duration)
		l.measuring.Store(false)
		r.took = time.Since(started)
		r.note(before, usageOf(c.processes()))
		r.messages = l.messages.Load()
	}
	profiled()
	l.end()
	for _, lat := range l.lats {
		r.lat = append(r.lat, lat...)
	}
	if err == nil && r.messages == 0 {
		err = errors.New("nothing was confirmed")
	}
	return r, err
}

// A load is the publishers of a run.
type load struct {
	ps                []*publisher
	lats              [][]uint32 // by publisher, when it has ended
	measuring, ending atomic.Bool
	messages          atomic.Int64 // confirmed while it was measured
	failed            chan error
	over              sync.WaitGroup
}

func (l *load) begin(s settings, c cluster) error {
	for i := range s.conns {
		nc, err := c.connect(s.entry, i%s.queues, s.batch, s.size)
		if err != nil {
			return err
		}
		n := max(s.window/s.conns/s.batch, 1)
		p := &publisher{c: nc, batch: s.batch, sent: make([]time.Time, n), wake: make(chan struct{}, 1)}
		for k := range n {
			p.free = append(p.free, k)
		}
		l.ps = append(l.ps, p)
	}
	l.lats = make([][]uint32, len(l.ps))
	for i, p := range l.ps {
		l.over.Go(func() {
			if err := p.publish(&l.ending); err != nil && !l.ending.Load() {
				l.failed <- err
			}
		})
		l.over.Go(func() {
			lat, err := p.read(&l.measuring, &l.ending, &l.messages)
			l.lats[i] = lat
			if err != nil && !l.ending.Load() {
				l.failed <- err
			}
		})
	}
	return nil
}

// wait lets the load go on for so long, or until something fails.
func (l *load) wait(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case err := <-l.failed:
		return err
	case <-t.C:
		return nil
	}
}

func (l *load) end() {
	l.ending.Store(true)
	for _, p := range l.ps {
		p.c.close()
		p.signal()
	}
	l.over.Wait()
}

func (p *publisher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// publish keeps the window full.
func (p *publisher) publish(ending *atomic.Bool) error {
	var numbers []int
	for !ending.Load() {
		p.mu.Lock()
		numbers = append(numbers[:0], p.free...)
		p.free = p.free[:0]
		p.mu.Unlock()
		if len(numbers) == 0 {
			<-p.wake
			continue
		}
		now := time.Now()
		for _, n := range numbers {
			p.sent[n] = now
			if err := p.c.send(n); err != nil {
				return err
			}
		}
		if err := p.c.flush(); err != nil {
			return err
		}
	}
	return nil
}

// read takes confirms.
func (p *publisher) read(measuring, ending *atomic.Bool, messages *atomic.Int64) (lat []uint32, err error) {
	var numbers []int
	for !ending.Load() {
		if numbers, err = p.c.confirmed(numbers[:0]); err != nil {
			return lat, err
		}
		if measuring.Load() {
			now := time.Now()
			for _, n := range numbers {
				lat = append(lat, uint32(now.Sub(p.sent[n]).Microseconds()))
			}
			messages.Add(int64(p.batch * len(numbers)))
		}
		p.mu.Lock()
		p.free = append(p.free, numbers...)
		p.mu.Unlock()
		p.signal()
	}
	return lat, nil
}

// usage is what was used of the machine.
type usage struct {
	nodes      []time.Duration
	self, busy time.Duration
	flushes    int64
}

func usageOf(pids []int) (u usage) {
	for _, pid := range pids {
		u.nodes = append(u.nodes, cpuOf(fmt.Sprintf("/proc/%d/stat", pid)))
	}
	u.self, u.busy, u.flushes = cpuOf("/proc/self/stat"), busyTime(), flushes()
	return u
}

func (r *result) note(before, after usage) {
	for i := range after.nodes {
		r.nodes = append(r.nodes, after.nodes[i]-before.nodes[i])
	}
	r.self, r.busy, r.flushes = after.self-before.self, after.busy-before.busy, after.flushes-before.flushes
}

// tick is that of /proc.
const tick = 10 * time.Millisecond

// cpuOf is what a process has used of the processors; 0 where the system does not say.
func cpuOf(name string) time.Duration {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var user, system int64
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * tick
}

// busyTime is how long processors have done something.
func busyTime() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	sum := int64(0)
	for i, f := range strings.Fields(line)[1:] {
		var n int64
		fmt.Sscan(f, &n)
		if i != 3 && i != 4 && i < 8 { // idle, waiting for a disk; guests are in user
			sum += n
		}
	}
	return time.Duration(sum) * tick
}

// flushes is how often disks were told to keep what they have.
func flushes() (sum int64) {
	text, _ := os.ReadFile("/proc/diskstats")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 18 {
			var n int64
			fmt.Sscan(f[18], &n)
			sum += n
		}
	}
	return sum
}
