// Package loadgen loads a server over its protocol and measures what becomes of every message: how many a second are
// confirmed and delivered, how long both take, and whether one is lost, comes twice or out of order.
//
// It owns the load, its accounting and the report. It does not know how a server is started or reached (it is handed a
// function that connects), nor what its reports are printed on.
package loadgen

import (
	"fmt"
	"time"

	"github.com/gmq/gmq/wire"
)

// Settings say what a run does. A report holds them, so that two reports can be told to be of the same thing.
type Settings struct {
	Publishers  int `json:"publishers"`  // connections that publish
	Consumers   int `json:"consumers"`   // connections that consume the queues
	Subscribers int `json:"subscribers"` // connections that subscribe to the topics
	Idle        int `json:"idle"`        // further connections, each subscribed to a queue in which nothing ever is

	Queues int    `json:"queues"` // that the messages are spread over; with topics, that are bound to them
	Topics int    `json:"topics"` // that the messages are spread over; 0: they go to the queues
	Queue  string `json:"queue"`  // the name of a single queue; "": made up
	Topic  string `json:"topic"`  // the name of a single topic, or how their names begin; "": made up

	Window  int    `json:"window"`  // messages of one publisher that are not confirmed, at the most
	Batch   int    `json:"batch"`   // messages in one publish
	Size    int    `json:"size"`    // of one body as it is sent, bytes
	Stored  string `json:"stored"`  // what publishes demand; "": nothing
	Storage string `json:"storage"` // of the queues that are made; "": as the server's defaults say
	Ack     string `json:"ack"`     // AckReceipt, AckSeq or AckAuto
	Credit  int    `json:"credit"`  // of one subscription
	Backlog int    `json:"backlog"` // without Rate, publishers wait while more than this is not delivered; 0: they never do

	Rate     float64       `json:"rate"`        // messages a second, all publishers together; 0: as fast as the windows let them
	Warmup   time.Duration `json:"warmup_ns"`   // before anything is measured
	Duration time.Duration `json:"duration_ns"` // that is measured; not used where Messages is not 0
	Messages int64         `json:"messages"`    // that are measured; 0: as many as the duration gives
}

// How a consumer settles what it gets.
const (
	AckReceipt = "receipt" // what has come together with one request that names the deliveries, as the Go client does
	AckSeq     = "seq"     // the same with the numbers of the messages alone
	AckAuto    = "auto"    // the delivery is the ack
)

// The most that a run may be asked for.
const (
	MaxConnections = 20_000     // publishers, and the same of each other kind
	maxTargets     = 1_000_000  // queues or topics
	maxPairs       = 16 << 20   // queues times publishers: that many numbers are remembered to see the order
	maxWindow      = 1_000_000  // of one publisher
	maxRate        = 10_000_000 // messages a second
	maxTime        = 72 * time.Hour
)

// Check says what is wrong with the settings, in the words of gmq bench's flags.
func (s *Settings) Check() error {
	for _, n := range []struct {
		flag       string
		v, min, at int64
	}{
		{"publishers", int64(s.Publishers), 1, MaxConnections}, {"consumers", int64(s.Consumers), 0, MaxConnections},
		{"subscribers", int64(s.Subscribers), 0, MaxConnections}, {"idle", int64(s.Idle), 0, MaxConnections},
		{"queues", int64(s.Queues), 0, maxTargets}, {"topics", int64(s.Topics), 0, maxTargets},
		{"window", int64(s.Window), 1, maxWindow}, {"batch", int64(s.Batch), 1, wire.MaxBatch},
		{"size", int64(s.Size), MinSize, 1 << 30}, {"credit", int64(s.Credit), 1, wire.MaxCredit},
		{"backlog", int64(s.Backlog), 0, 1 << 40}, {"rate", int64(s.Rate), 0, maxRate}, {"messages", s.Messages, 0, 1 << 40},
		{"warmup", int64(s.Warmup), 0, int64(maxTime)}, {"duration", int64(s.Duration), 0, int64(maxTime)},
	} {
		if n.v < n.min || n.v > n.at {
			return fmt.Errorf("--%s: want %d to %d, not %d", n.flag, n.min, n.at, n.v)
		}
	}
	switch {
	case s.Messages == 0 && s.Duration == 0:
		return fmt.Errorf("--duration: want more than 0s, or --messages")
	case s.Rate != s.Rate || s.Rate < 0:
		return fmt.Errorf("--rate: want 0 or more a second, not %v", s.Rate)
	case s.Topics == 0 && s.Queues == 0:
		return fmt.Errorf("--queues: want 1 or more, not 0")
	case s.Topics == 0 && s.Subscribers > 0:
		return fmt.Errorf("--subscribers are of topics: --topic or --topics says which")
	case s.Queues == 0 && s.Consumers > 0:
		return fmt.Errorf("--consumers have nothing to consume where --queues is 0")
	case s.Queues > 1 && s.Queue != "":
		return fmt.Errorf("--queue and --queues: the names of several queues are made up")
	case s.Topics > 0 && s.Queues%s.Topics != 0:
		return fmt.Errorf("--queues: want a multiple of the %d topics, so that each has as many queues as the others, not %d", s.Topics, s.Queues)
	case int64(s.Queues)*int64(s.Publishers) > maxPairs:
		return fmt.Errorf("--queues times --publishers: want %d at the most, not %d", maxPairs, int64(s.Queues)*int64(s.Publishers))
	case s.Batch > s.Window:
		return fmt.Errorf("--batch: want at most the window of %d, not %d", s.Window, s.Batch)
	case s.Ack != AckReceipt && s.Ack != AckSeq && s.Ack != AckAuto:
		return fmt.Errorf("--ack: want %s, %s or %s, not %q", AckReceipt, AckSeq, AckAuto, s.Ack)
	}
	return nil
}

// targets is how many names the messages are spread over.
func (s *Settings) targets() int {
	if s.Topics > 0 {
		return s.Topics
	}
	return s.Queues
}

// queueCopies is in how many queues each message ends.
func (s *Settings) queueCopies() int {
	if s.Topics > 0 {
		return s.Queues / s.Topics
	}
	return 1
}

// queueStream is which copy of a message is in a queue.
func (s *Settings) queueStream(queue int) int {
	if s.Topics > 0 {
		return queue / s.Topics
	}
	return 0
}

// streams is in how many places each message is to be delivered: in each once.
func (s *Settings) streams() int { return s.queueCopies() + s.Subscribers }
