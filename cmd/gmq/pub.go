package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// pubFlags are what pub was asked for.
type pubFlags struct {
	json    bool
	base64  bool
	file    string
	topic   string
	headers []string
	message messageFlags
}

func newPub(g *globals) *cobra.Command {
	var f pubFlags
	cmd := &cobra.Command{
		Use:   "pub QUEUE [BODY]",
		Short: "Publish messages: one, or every line of stdin",
		Long: `Pub publishes BODY, or, where there is none, every line of stdin as a message of its own, as
fast as the server confirms them. A body is a string unless --json says that it is JSON already;
then it arrives byte for byte, and blank lines are passed over. --base64 and --file send bytes
as one message, whatever they are.

With --topic messages go to a topic, and from there into every queue that is bound to it (see gmq
queue bind), in all of them or in none. Where no queue is, they are nobody's, and that is no error.

What the server refuses is reported with its line and not sent again; pub then ends with an
exit code other than 0. A refusal that the next message would meet as well ends it at once.
Where the server is a node of a cluster and is lost, pub goes on with another node. So that nothing is
stored twice by that, it gives messages ids of its own (the first 250,000; see --dedup-id).
It is silent in a pipe. With -o json there is a line for each message, in their order:
{"seq":1,"stored":"disk"}, for a topic {"queues":2,"stored":"disk"}, or {"line":7,"error":{…}}.`,
		Example: `  gmq pub orders 'hello'
  gmq pub orders --json '{"id":17}' --header source=shop
  tail -f access.log | gmq pub lines
  jq -c '.[]' orders.json | gmq pub orders --json
  gmq pub pictures --file cat.png
  gmq pub --topic files.eu.added --json '{"name":"cat.png"}'
  gmq pub reminders 'tea is ready' --delay 4m --priority 9
  gmq pub mails 'order 17 is on its way' --key customer-4 --dedup-id shipped-17`,
		Args:        cobra.MaximumNArgs(2),
		Annotations: remote,
		RunE:        func(cmd *cobra.Command, args []string) error { return runPub(cmd, g, &f, args) },
	}
	cmd.ValidArgsFunction = g.completeQueues
	fs := cmd.Flags()
	fs.BoolVar(&f.json, "json", false, "bodies are JSON already")
	fs.BoolVar(&f.base64, "base64", false, "send BODY, or the whole of stdin, as bytes")
	fs.StringVar(&f.file, "file", "", "send a whole `file` as one message: bytes, or with --json JSON; - is stdin")
	fs.StringVar(&f.topic, "topic", "", "publish to a `topic`, and to no QUEUE")
	fs.StringArrayVar(&f.headers, "header", nil, "a header of every message, as `name=value`; may be repeated")
	f.message.add(cmd)
	complete(cmd, "header")
	complete(cmd, "topic")
	return cmd
}

func runPub(cmd *cobra.Command, g *globals, f *pubFlags, args []string) error {
	queue := ""
	if f.topic == "" {
		if len(args) == 0 {
			return usage("usage: %s; which queue?", cmd.UseLine())
		}
		queue, args = args[0], args[1:]
		if err := queueArg(queue); err != nil {
			return err
		}
	} else if !wire.ValidTopic([]byte(f.topic)) {
		return usage("--topic: %q is no topic: want words of A-Z a-z 0-9 _ - with dots between them", f.topic)
	}
	headers, err := f.check(args)
	if err != nil {
		return err
	}
	return publish(cmd, g, f, queue, args, headers)
}

// check finds what contradicts itself, and reads the headers.
func (f *pubFlags) check(args []string) (map[string]string, error) {
	switch {
	case len(args) > 1:
		return nil, usage("one BODY at most beside --topic, not %d; each line of stdin is a message too", len(args))
	case f.file != "" && len(args) > 0:
		return nil, usage("BODY and --file: which of them?")
	case f.base64 && f.json:
		return nil, usage("--base64 and --json: which of them?")
	}
	many := len(args) == 0 && f.file == "" && !f.base64
	if err := f.message.check(many); err != nil {
		return nil, err
	}
	headers := map[string]string{}
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return nil, usage("--header: want name=value, not %q", h)
		}
		headers[name] = value
	}
	return headers, nil
}

// publish connects and hands the bodies to whoever sends them.
func publish(cmd *cobra.Command, g *globals, f *pubFlags, queue string, args []string, headers map[string]string) error {
	c, ctx, give, closing, err := connectPub(cmd, g, f.message.dedupID != "")
	if err != nil {
		return err
	}
	vain := false
	defer func() { closing(vain) }()
	src, many, err := f.source(cmd, args, int(c.Hello().MaxMessageBytes))
	if err != nil {
		return err
	}
	opts := f.message.options()
	if len(headers) > 0 {
		opts = append(opts, gmq.Headers(maps.Clone(headers)))
	}
	to := destination(c.Queue(queue))
	if f.topic != "" {
		to = c.Topic(f.topic)
	}
	p := newPublisher(cmd, g, to, many, opts)
	p.give = give
	err = p.run(ctx, src)
	vain = p.vain
	return err
}

// A refusal is why one message was not published.
type refusal struct {
	line int // 0 where there is only one message
	err  error
}

func (r *refusal) Error() string {
	if r.line == 0 {
		return r.err.Error()
	}
	return fmt.Sprintf("line %d: %v", r.line, r.err)
}

func (r *refusal) Unwrap() error { return r.err }

func unwrapRefusal(err error) error {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.err
	}
	return err
}

// tooLarge is the server's own refusal, told before it is asked.
func tooLarge(limit int) error {
	return &gmq.Error{Code: wire.CodeMessageTooLarge, Message: fmt.Sprintf("the body has more than %d bytes (the server's max_message_bytes)", limit)}
}

// ofThisMessage reports whether the next message may fare better.
func ofThisMessage(err error) bool {
	e, ok := errors.AsType[*gmq.Error](err)
	if !ok {
		_, ours := errors.AsType[*refusal](err)
		return ours
	}
	switch e.Code {
	case wire.CodeMessageTooLarge, wire.CodeBadRequest, wire.CodeLineTooLong, wire.CodeQueueFull,
		wire.CodeDiskFull, wire.CodeOverloaded, wire.CodeRateLimited, wire.CodeNoQuorum:
		return true
	}
	return false
}

// unsent reports whether the message never left, since everything ends.
func unsent(err error) bool {
	return errors.Is(err, gmq.ErrClosed) || errors.Is(err, gmq.ErrNotConnected) ||
		!errors.Is(err, gmq.ErrUnknownOutcome) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}
