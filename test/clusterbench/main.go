// Command clusterbench measures what a cluster of three nodes on this machine confirms: three processes on loopback, their files on one
// disk, each publish kept by a majority before it is confirmed. It does the same with three JetStream and three RabbitMQ nodes.
//
//	go run . -exe ../../bin/gmq -brokers gmq
//	go run . -exe ../../bin/gmq -brokers gmq,jetstream,rabbitmq -nats /usr/bin/nats-server
//
// It owns the load, which is the same for all, and knows of each broker how its nodes are started and how it is published to. It is a module of
// its own, so that nobody else needs the clients of other brokers. It asserts nothing.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Three nodes of one kind.
type cluster interface {
	// start starts the nodes with their files below dir, and returns when they are one cluster.
	start(dir string) error
	// prepare makes so many queues, and finds out who leads them.
	prepare(queues int) error
	// connect makes a publisher. Entry says to which node: see settings. It publishes to the queues in turn, beginning with that one.
	connect(entry string, first int, batch, size int) (conn, error)
	// processes are the nodes'.
	processes() []int
	stop()
}

// A conn is a publisher's connection. send and flush are one goroutine's, confirmed another's.
type conn interface {
	// send publishes batch messages under a number, which the confirm will tell.
	send(number int) error
	flush() error
	// confirmed waits until publishes are confirmed, and appends their numbers.
	confirmed(into []int) ([]int, error)
	close()
}

var (
	exe      = flag.String("exe", "bin/gmq", "the server")
	nats     = flag.String("nats", "nats-server", "the server of JetStream")
	rabbit   = flag.String("rabbit", "/usr/lib/rabbitmq/bin/rabbitmq-server", "the server of RabbitMQ: the script itself, not the one that changes to another user first")
	brokers  = flag.String("brokers", "gmq", "which are measured, in this order: gmq, jetstream, rabbitmq")
	queues   = flag.String("queues", "1,16", "over how many queues the messages are spread")
	entries  = flag.String("entries", "leader,other", "to which node publishers connect: leader (of their queue), other (which does not lead it), one (the first, whoever leads)")
	batches  = flag.String("batches", "1,64", "messages in one publish, for brokers that have batches")
	conns    = flag.Int("conns", 4, "publishers")
	window   = flag.Int("window", 1000, "messages that are not confirmed, of all publishers together")
	size     = flag.Int("size", 100, "of a body, bytes")
	duration = flag.Duration("duration", 5*time.Second, "that is measured, after a second of warm-up")
	rounds   = flag.Int("rounds", 1, "how often each is measured")
	dir      = flag.String("dir", "", "for the files of the nodes; a temporary directory if not said")
	hold     = flag.Bool("hold", false, "start the nodes of the first broker, say how they are reached, and wait for ^C")
	profile  = flag.String("profile", "", "a directory for what perf records of the nodes, one file for each setting and node")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	base := *dir
	if base == "" {
		made, err := os.MkdirTemp("", "gmq-clusterbench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(made)
		base = made
	}
	for _, name := range strings.Split(*brokers, ",") {
		if err := measure(name, filepath.Join(base, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func measure(name, dir string) error {
	var c cluster
	switch name {
	case "gmq":
		c = &gmqCluster{}
	case "jetstream":
		c = &natsCluster{}
	case "rabbitmq":
		c = &rabbitCluster{}
	default:
		return fmt.Errorf("it is none of gmq, jetstream, rabbitmq")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer c.stop()
	if err := c.start(dir); err != nil {
		return err
	}
	if *hold {
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		<-interrupted
		return nil
	}
	fmt.Println(header)
	for range *rounds {
		for _, q := range numbers(*queues) {
			for _, entry := range strings.Split(*entries, ",") {
				for _, batch := range numbers(*batches) {
					if batch > 1 && name != "gmq" {
						continue
					}
					s := settings{broker: name, queues: q, entry: entry, batch: batch, conns: *conns, window: *window, size: *size, duration: *duration}
					r, err := s.run(c)
					if err != nil {
						return err
					}
					fmt.Println(r)
				}
			}
		}
	}
	return nil
}

func numbers(list string) (all []int) {
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "%q is no list of numbers\n", list)
			os.Exit(2)
		}
		all = append(all, n)
	}
	return slices.Compact(all)
}
