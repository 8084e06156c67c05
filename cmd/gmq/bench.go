package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gmq/gmq/internal/loadgen"
	"github.com/gmq/gmq/wire"
)

// benchFlags are what bench was asked for.
type benchFlags struct {
	set     loadgen.Settings
	storage choice
	stored  choice
	ack     choice
	size    sizeFlag
	local   choice
	dir     string
	compare bool
}

func newBench(g *globals) *cobra.Command {
	f := benchFlags{
		storage: choice{values: []string{"file", "memory"}}, stored: choice{values: storedNames}, local: choice{values: []string{"file", "memory"}},
		ack: choice{value: loadgen.AckReceipt, values: []string{loadgen.AckReceipt, loadgen.AckSeq, loadgen.AckAuto}}, size: sizeFlag{100},
	}
	cmd := &cobra.Command{
		Use:   "bench [A.json B.json]",
		Short: "Measure how fast a server is, and check that it loses nothing meanwhile",
		Long: `Bench publishes to queues, or topics, of its own and consumes them, and reports how many messages a
second are confirmed and delivered and how long both take. Each message says when it was sent and which
it is: bench also reports what was lost, came twice, or came out of order, and ends with exit code 1
then. What it has made on the server it removes, also after ^C.

Without --rate it keeps --window messages of each publisher on their way (closed loop): the most that
the server can do. With --rate messages are sent on a schedule whatever the server does (open loop),
and latency counts from when a message was to be sent; --window then bounds what a server that stands
still can pile up.

--local starts a server for the run, in a temporary directory and a process of its own, and throws it
away. Bench and the server share the machine's processors; the report says what each of them used.

A server that wants TLS or a login gets what the other commands give it (--ca, --cert, --user,
GMQ_TOKEN, --context): each connection of the load is encrypted and logged in. The user needs the
rights publish, consume and manage.

With -o json the report has every setting; --compare prints two of them side by side.`,
		Example: `  gmq bench --local file
  gmq bench --local memory --size 1KiB --publishers 4 --consumers 4 --queues 4
  gmq bench --server queue-1:4567 --rate 20000 --duration 1m
  gmq bench --local memory --topics 1 --subscribers 10
  gmq bench --local file -o json > before.json
  gmq bench --compare before.json after.json`,
		Args:        cobra.MaximumNArgs(2),
		Annotations: remote,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.compare {
				return benchCompare(cmd, g, args)
			}
			if len(args) > 0 {
				return usage("usage: %s; files are for --compare", cmd.UseLine())
			}
			return runBench(cmd, g, &f)
		},
	}
	f.add(cmd)
	return cmd
}

func (f *benchFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SortFlags = false
	s := &f.set
	fs.IntVar(&s.Publishers, "publishers", 1, "connections that publish")
	fs.IntVar(&s.Consumers, "consumers", 1, "connections that consume queues")
	fs.IntVar(&s.Queues, "queues", 1, "spread the messages over so many queues; with topics, bind so many")
	fs.StringVar(&s.Queue, "queue", "", "the `name` of the queue; it must be empty, and is removed only if it was made")
	fs.IntVar(&s.Topics, "topics", 0, "publish to so many topics instead")
	fs.StringVar(&s.Topic, "topic", "", "publish to this `topic`; with --topics, to NAME.0 and so on")
	fs.IntVar(&s.Subscribers, "subscribers", 0, "connections that subscribe to the topics")
	fs.IntVar(&s.Idle, "idle", 0, "further connections, subscribed to a queue in which nothing is")
	fs.IntVar(&s.Window, "window", 1000, "messages of one publisher that are not confirmed, at the most (10000 with --rate)")
	fs.IntVar(&s.Batch, "batch", 1, "messages in one publish")
	fs.Var(&f.size, "size", fmt.Sprintf("`bytes` of a body, %d at the least", loadgen.MinSize))
	fs.Float64Var(&s.Rate, "rate", 0, "messages a second, all publishers together; 0 is as fast as the window lets them")
	fs.DurationVar(&s.Warmup, "warmup", time.Second, "how long before it is measured")
	fs.DurationVar(&s.Duration, "duration", 10*time.Second, "how long it is measured")
	fs.Int64Var(&s.Messages, "messages", 0, "measure so many messages, however long that takes")
	fs.IntVar(&s.Backlog, "backlog", 0, "without --rate, publishers wait while more messages than this are not delivered (ten windows, 64MiB at the most); 0 is for ever more")
	fs.Var(&f.storage, "storage", "`storage` of the queues that are made: file or memory; else what the server says")
	fs.Var(&f.stored, "stored", "the `least` that a confirm must stand for, such as disk; less is refused")
	fs.Var(&f.ack, "ack", "`how` consumers ack: receipt (as the Go client does), seq, or auto")
	fs.IntVar(&s.Credit, "credit", 1000, "messages that a subscription may hold")
	fs.Var(&f.local, "local", "start a server with this `storage` for the run: file or memory")
	fs.StringVar(&f.dir, "dir", "", "the `directory` for what a local server stores (the system's for temporary files)")
	fs.BoolVar(&f.compare, "compare", false, "compare two reports that -o json has printed")
	complete(cmd, "storage", f.storage.values...)
	complete(cmd, "stored", storedNames...)
	complete(cmd, "ack", f.ack.values...)
	complete(cmd, "local", f.local.values...)
	fs.VisitAll(func(fl *pflag.Flag) {
		if fl.Value.Type() != "bool" && fl.Name != "dir" {
			complete(cmd, fl.Name) // does nothing where there is one already
		}
	})
}

// check fills in what follows from other flags, and finds what contradicts itself.
func (f *benchFlags) check(given func(flag string) bool) error {
	s := &f.set
	s.Storage, s.Stored, s.Ack, s.Size = f.storage.value, f.stored.value, f.ack.value, int(f.size.Size)
	if s.Topic != "" && s.Topics == 0 {
		s.Topics = 1
	}
	if s.Topics > 0 {
		if s.Subscribers > 0 && !given("queues") && !given("consumers") {
			s.Queues, s.Consumers = 0, 0
		} else if !given("queues") {
			s.Queues = s.Topics
		}
	}
	if s.Rate > 0 && !given("window") {
		s.Window = max(10_000, s.Batch)
	}
	if !given("backlog") && s.Rate == 0 {
		s.Backlog = max(s.Window*s.Publishers, min(10*s.Window*s.Publishers, 64<<20/max(s.Size, 1)))
	}
	if s.Queue != "" {
		if err := queueArg(s.Queue); err != nil {
			return err
		}
	}
	switch {
	case s.Topic != "" && !wire.ValidTopic([]byte(s.Topic)):
		return usage("--topic: %q is no topic: want words of A-Z a-z 0-9 _ - with dots between them", s.Topic)
	case f.local.value != "" && given(flagServer):
		return usage("--local and --server: which of them?")
	case f.dir != "" && f.local.value == "":
		return usage("--dir is for a --local server")
	case given("messages") && given("duration"):
		return usage("--messages and --duration: which of them?")
	}
	if given("messages") {
		s.Duration = 0
	}
	if err := s.Check(); err != nil {
		return usage("%w", err)
	}
	return nil
}

func runBench(cmd *cobra.Command, g *globals, f *benchFlags) (err error) {
	if err := f.check(func(flag string) bool { return cmd.Flags().Changed(flag) }); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	opt := loadgen.Options{Settings: f.set, Version: version, Patience: g.timeout}
	at := *g
	if f.local.value != "" {
		s, err := startLocal(ctx, f)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.end(g.timeout)) }()
		at.server, at.target = s.addr, target{} // and nobody has to log in
		opt.Server.Local, opt.ServerCPU = f.local.value, loadgen.CPUOf(s.cmd.Process.Pid)
		asked := make(chan os.Signal, 2)
		signal.Notify(asked, syscall.SIGINT, syscall.SIGTERM)
		defer signal.Stop(asked)
		go func() {
			<-asked
			<-asked // twice: at once, but nothing stays behind
			s.discard()
			os.Exit(exitError)
		}()
	} else {
		context.AfterFunc(ctx, stop) // a second signal ends the process
	}
	opt.Server.Address = at.address()
	if f.local.value != "" {
		opt.Dial = at.dialPlain
	} else if opt.Dial, err = at.loadDialer(ctx); err != nil {
		return err
	}
	if onTerminal(cmd.ErrOrStderr()) {
		opt.Progress = func(p loadgen.Progress) { fmt.Fprintln(cmd.ErrOrStderr(), benchProgress(p)) }
	}
	r, err := loadgen.Run(ctx, opt)
	if r == nil {
		return at.benchFailed(ctx, err)
	}
	if g.json() {
		err = errors.Join(err, printJSON(cmd.OutOrStdout(), r))
	} else {
		err = errors.Join(err, printBench(cmd.OutOrStdout(), r))
	}
	if err == nil && !r.OK {
		err = errors.New(r.Problems[0])
	}
	return err
}

// benchFailed says why there was no run.
func (g *globals) benchFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted before the load began")
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return &failure{codeFor(e.Code), err}
	}
	return err
}
