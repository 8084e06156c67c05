package loadgen

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gmq/gmq/wire"
)

// Options are what a run is made from.
type Options struct {
	Settings
	Version   string                                      // of the generator, for the report
	Server    Server                                      // Address and Local, for the report; the server itself tells the rest
	Dial      func(ctx context.Context) (net.Conn, error) // a connection on which requests may be sent
	Patience  time.Duration                               // how long nothing may happen until it is taken for over
	Progress  func(Progress)                              // called every second, where it is not nil
	ServerCPU func() time.Duration                        // what the server has used of the processors; nil: it is not known

	newAlarm func() alarm // a test's
}

// Progress is how far a run is.
type Progress struct {
	Elapsed              time.Duration // since the beginning of the measuring; below 0 in the warm-up
	Published, Delivered int64         // in the last second
	Waiting              int64         // confirmed and not delivered
	Refused              int64         // since the beginning
	Draining             bool          // no more is published
}

// A run is one load. What its fields are guarded by they say; the rest does not change while it goes on.
type run struct {
	opt      Options
	set      Settings
	patience time.Duration
	newAlarm func() alarm
	id       string // of the run, in every body
	epoch    time.Time
	queues   []string
	topics   []string
	heads    [][]byte // of publishes, up to the id's value, by target

	publishers []*publisher
	consumers  []*consumer // those of queues, then those of topics
	ledgers    []*ledger   // by publisher
	confirms   tallies
	deliveries tallies

	measuring                                  atomic.Pointer[span]
	confirmed, delivered, dropped, redelivered atomic.Int64 // messages; the latter three of all streams
	faults                                     faults

	ending atomic.Bool   // connections are closed from here
	failed chan struct{} // closed when err is set

	mu       sync.Mutex // guards the following
	err      error      // the first that ended a connection
	refusals map[wire.Code]int64
	conns    []net.Conn
	running  sync.WaitGroup // readers
}

// Run runs the load and removes what it has made on the server. The report tells of everything that went wrong while
// it ran; an error says that there was no run, or that something is left on the server. When ctx ends, the load ends
// early, and the report is about what there was of it.
func Run(ctx context.Context, opt Options) (report *Report, err error) {
	if err := opt.Check(); err != nil {
		return nil, err
	}
	r := newRun(opt)
	defer r.hangUp()
	nc, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := newControl(nc, r.patience)
	var h hello
	if err := c.ask(ctx, `"op":"hello","client":"gmq bench","protocol":1`, &h); err != nil {
		return nil, err
	}
	if err := r.fits(h); err != nil {
		return nil, err
	}
	r.opt.Server.Version, r.opt.Server.Node = h.Version, h.Node

	made := r.queues // by their names nobody else's
	if r.set.Queue != "" {
		made = nil
	}
	defer func() { err = errors.Join(err, r.cleanUp(ctx, made)) }()
	fresh, err := c.make(ctx, r.queues, r.set.Storage)
	if made == nil {
		made = fresh
	}
	if err == nil && r.set.Topics > 0 {
		err = c.bind(ctx, r.queues[:r.set.Queues], func(i int) string { return r.topics[i%r.set.Topics] })
	}
	if err == nil {
		err = r.connect(ctx)
	}
	if err != nil {
		return nil, err
	}
	usage := r.load(ctx)
	judged := r.drain(ctx)
	if r.set.Messages > 0 {
		usage.end(r)
	}
	r.ending.Store(true)
	left, err := c.left(context.WithoutCancel(ctx), r.queues[:r.set.Queues])
	if err != nil {
		r.fail(fmt.Errorf("what is left in the queues is not known: %w", err))
	}
	return r.report(usage, left, judged), nil
}

func newRun(opt Options) *run {
	var seed [runDigits / 2]byte
	rand.Read(seed[:])
	r := &run{
		opt: opt, set: opt.Settings, patience: opt.Patience, newAlarm: opt.newAlarm, id: hex.EncodeToString(seed[:]), epoch: time.Now(),
		confirms: newTallies(opt.Publishers), deliveries: newTallies(opt.Consumers + opt.Subscribers),
		failed: make(chan struct{}), refusals: map[wire.Code]int64{},
	}
	if r.newAlarm == nil {
		r.newAlarm = newFineAlarm
	}
	for range opt.Publishers {
		r.ledgers = append(r.ledgers, newLedger(opt.streams()))
	}
	name := "bench-" + r.id
	r.queues = names(opt.Queues, opt.Queue, name)
	base := opt.Topic
	if base == "" {
		base = name
	}
	if opt.Topics == 1 {
		r.topics = []string{base}
	} else {
		r.topics = names(opt.Topics, "", base)
	}
	demand := ""
	if opt.Stored != "" {
		demand = fmt.Sprintf(`,"stored":%q`, opt.Stored)
	}
	// A publish that is read after its queue has been removed must not make it anew.
	kind, targets := "queue", r.queues
	if opt.Topics > 0 {
		kind, targets = "topic", r.topics
	}
	for _, target := range targets {
		r.heads = append(r.heads, fmt.Appendf(nil, `{"op":"publish",%q:%q,"create":false%s,"id":`, kind, target, demand))
	}
	if opt.Idle > 0 {
		r.queues = append(r.queues, name+".idle")
	}
	return r
}

// names makes up n names, or takes the one that is given.
func names(n int, given, base string) (all []string) {
	if n == 1 && given != "" {
		return []string{given}
	}
	for i := range n {
		all = append(all, fmt.Sprintf("%s.%d", base, i))
	}
	return all
}

// fits says what the server would refuse of the settings.
func (r *run) fits(h hello) error {
	const around = 24 // bytes around each body
	line := int64(r.set.Batch)*int64(r.set.Size+around) + 1024
	switch {
	case int64(r.set.Size) > h.MaxMessageBytes:
		return fmt.Errorf("--size: the server takes %d bytes (max_message_bytes), not %d", h.MaxMessageBytes, r.set.Size)
	case line > h.MaxMessageBytes+64<<10:
		return fmt.Errorf("--batch: %d messages of %d bytes are more than one line of the server may have (%d bytes)", r.set.Batch, r.set.Size, h.MaxMessageBytes+64<<10)
	}
	return nil
}

func (r *run) now() time.Duration { return time.Since(r.epoch) }

// span is what is measured. It is not there before the load begins.
func (r *run) span() span {
	if s := r.measuring.Load(); s != nil {
		return *s
	}
	return span{}
}

func (r *run) dial(ctx context.Context) (net.Conn, error) {
	nc, err := r.opt.Dial(ctx)
	if err == nil {
		r.mu.Lock()
		r.conns = append(r.conns, nc)
		r.mu.Unlock()
	}
	return nc, err
}

// fail notes an error that ends the run, if it is the first.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		close(r.failed)
	}
}

// refused notes messages that the server did not take.
func (r *run) refused(code wire.Code, messages int64) {
	r.mu.Lock()
	r.refusals[code] += messages
	r.mu.Unlock()
}

// reading runs a reader, whose end before that of the run is a failure.
func (r *run) reading(read func() error) {
	r.running.Go(func() {
		if err := read(); err != nil && !r.ending.Load() {
			r.fail(err)
		}
	})
}

// hangUp closes all connections.
func (r *run) hangUp() {
	r.ending.Store(true)
	r.mu.Lock()
	conns := r.conns
	r.conns = nil
	r.mu.Unlock()
	for _, nc := range conns {
		nc.Close()
	}
	r.running.Wait()
}

// cleanUp removes queues, by a connection of its own: those of the run may be the reason why it ended.
func (r *run) cleanUp(ctx context.Context, queues []string) error {
	r.hangUp()
	if len(queues) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	dialing, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	nc, err := r.dial(dialing)
	if err != nil {
		return fmt.Errorf("the queues bench-%s… are left on the server: %w", r.id, err)
	}
	defer r.hangUp()
	return newControl(nc, r.patience).remove(ctx, queues)
}
