package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// inFlight is how many publishes may wait for their confirm.
const inFlight = 8192

// shownRefusals is how many refusals are told one by one on stderr.
const shownRefusals = 10

// An outcome is a message on its way, or why it is not.
type outcome struct {
	line   int
	future *gmq.Future
	err    error
}

// A destination is a queue or a topic.
type destination interface {
	Name() string
	SendAsync(ctx context.Context, body any, opts ...gmq.PublishOption) *gmq.Future
}

// A publisher sends the bodies of a source without waiting for each. One goroutine feeds, the
// other collects the confirms in order; the channel between them bounds what is on its way.
type publisher struct {
	cmd   *cobra.Command
	g     *globals
	to    destination
	topic bool // to is one
	many  bool
	opts  []gmq.PublishOption
	give  *ids
	out   *bufio.Writer
	line  []byte
	way   chan outcome

	confirmed atomic.Int64
	refused   int64
	unknown   int64 // sent, and no word came
	answer    error // the last word, of one that was asked again then
	first     error // the first refusal
	stop      error // why everything ends early
	last      gmq.Published
	known     int64 // duplicates among the confirmed
	vain      bool  // what is on its way has been waited for long enough
}

func newPublisher(cmd *cobra.Command, g *globals, to destination, many bool, opts []gmq.PublishOption) *publisher {
	_, topic := to.(*gmq.Topic)
	return &publisher{
		cmd: cmd, g: g, to: to, topic: topic, many: many, opts: opts,
		out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), way: make(chan outcome, inFlight),
	}
}

func (p *publisher) run(parent context.Context, src source) error {
	start := time.Now()
	// waiting ends with the connection, or when nothing is heard; feeding ends also when
	// the person at the keyboard says so, and what is on its way then still arrives.
	waiting, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	feeding, release := signal.NotifyContext(waiting, syscall.SIGINT, syscall.SIGTERM)
	defer release()
	context.AfterFunc(feeding, release) // a second signal ends the process
	feeding, halt := context.WithCancel(feeding)
	defer halt()
	patience := time.AfterFunc(p.g.timeout, func() { cancel(p.g.noAnswer()) })
	defer patience.Stop()

	stderr := p.cmd.ErrOrStderr()
	stopProgress := func() {}
	if p.many && !p.g.json() && !onTerminal(p.cmd.InOrStdin()) {
		stopProgress = progress(stderr, func() string {
			n := p.confirmed.Load()
			return fmt.Sprintf("%s confirmed, %s", plural(n, "message"), perSecond(n, time.Since(start)))
		})
	}
	go p.feed(feeding, src)
	err := p.collect(waiting, feeding, halt, patience)
	p.vain = waiting.Err() != nil
	stopProgress()
	if err == nil {
		err = p.verdict(waiting)
	}
	if err == nil && onTerminal(stderr) && !p.g.json() {
		p.summary(stderr, time.Since(start))
	}
	return err
}

// feed sends until the source ends, or feeding does.
func (p *publisher) feed(feeding context.Context, src source) {
	defer close(p.way)
	for {
		body, line, err := src()
		if err == io.EOF {
			return
		}
		o := outcome{line: line, err: err}
		if err == nil {
			o.future = p.to.SendAsync(feeding, body, p.give.add(p.opts)...)
		}
		select {
		case p.way <- o:
		case <-feeding.Done():
			return
		}
		if err != nil && !ofThisMessage(err) {
			return
		}
	}
}

// collect takes the outcomes in the order of the messages, until there are no more.
func (p *publisher) collect(waiting, feeding context.Context, halt func(), patience *time.Timer) error {
	done := feeding.Done()
	for {
		var o outcome
		ok := true
		select {
		case o, ok = <-p.way:
		default:
			patience.Stop() // it is for us to send
			if err := p.out.Flush(); err != nil {
				return err
			}
			select {
			case o, ok = <-p.way:
			case <-done:
				// Stdin may never end. What is in the channel counts still.
				if len(p.way) == 0 {
					return p.interrupted(waiting)
				}
				continue
			}
		}
		if !ok {
			return p.out.Flush()
		}
		patience.Reset(p.g.timeout)
		if err := p.take(waiting, o); err != nil {
			return err
		}
		if p.stop != nil {
			halt()
		}
	}
}

// interrupted is the end where feeding has been told to stop.
func (p *publisher) interrupted(waiting context.Context) error {
	if p.stop == nil && waiting.Err() == nil {
		p.stop = errors.New("interrupted")
	}
	return p.out.Flush()
}

// take waits for one outcome and tells it.
func (p *publisher) take(waiting context.Context, o outcome) error {
	err := o.err
	if o.future != nil {
		var sent gmq.Published
		if sent, err = o.future.Wait(waiting); err == nil {
			p.confirmed.Add(1)
			sent.Duplicate = sent.Duplicate && p.give.prefix == "" // else it was pub that sent it twice
			p.last = sent
			if sent.Duplicate {
				p.known++
			}
			if p.g.json() {
				return p.printSent(sent)
			}
			return nil
		}
	}
	switch {
	case unsent(err):
		return nil
	case errors.Is(err, gmq.ErrUnknownOutcome):
		p.unknown++
		if e, ok := errors.AsType[*gmq.Error](err); ok && e.Last != nil {
			p.answer = inWords(e.Last)
		}
		return nil
	case !ofThisMessage(err) && p.stop == nil:
		p.stop = inWords(err)
	}
	if o.future == nil && !ofThisMessage(err) {
		return nil // the source failed: that is about no message
	}
	return p.refuse(&refusal{o.line, inWords(unwrapRefusal(err))}, err)
}

func (p *publisher) refuse(r *refusal, err error) error {
	p.refused++
	if p.first == nil {
		p.first = r
	}
	if p.g.json() {
		return p.printRefused(r, err)
	}
	if p.many && p.refused <= shownRefusals {
		fmt.Fprintln(p.cmd.ErrOrStderr(), "gmq:", r)
	}
	return nil
}

func (p *publisher) printSent(sent gmq.Published) error {
	var b []byte
	if p.topic {
		b = strconv.AppendInt(append(p.line[:0], `{"queues":`...), int64(sent.Queues), 10)
	} else {
		b = strconv.AppendUint(append(p.line[:0], `{"seq":`...), sent.Seq, 10)
	}
	if sent.Stored != "" { // no queue, or none that outlives its subscriber
		b = wire.AppendString(append(b, `,"stored":`...), sent.Stored)
	}
	if sent.Duplicate {
		b = append(b, `,"duplicate":true`...)
	}
	p.line = append(b, "}\n"...)
	_, err := p.out.Write(p.line)
	return err
}

func (p *publisher) printRefused(r *refusal, err error) error {
	type told struct {
		Code      wire.Code `json:"code"`
		Message   string    `json:"message"`
		Retryable bool      `json:"retryable"`
	}
	t := told{Code: wire.CodeBadRequest, Message: r.err.Error()}
	if e, ok := errors.AsType[*gmq.Error](err); ok {
		t = told{e.Code, e.Message, e.Retryable}
	}
	return printJSON(p.out, struct {
		Line  int  `json:"line,omitempty"`
		Error told `json:"error"`
	}{r.line, t})
}

// verdict is what pub ends with.
func (p *publisher) verdict(waiting context.Context) error {
	stop := p.stop
	if cause := context.Cause(waiting); cause != nil {
		stop = cause
	}
	if p.answer != nil && stop != nil {
		stop = fmt.Errorf("nothing but this from %s within %v: %w", p.g.address(), p.g.timeout, p.answer)
	}
	switch {
	case stop == nil && p.refused == 0 && p.unknown == 0:
		return nil
	case !p.many && p.refused > 0:
		return p.first
	case !p.many && stop != nil:
		return stop
	}
	text := grouped(p.confirmed.Load()) + " published"
	if p.refused > 0 {
		text += fmt.Sprintf(", %s refused", grouped(p.refused))
	}
	if p.unknown > 0 {
		text += fmt.Sprintf(", %s sent without an answer (they may be stored or not)", grouped(p.unknown))
	}
	switch {
	case stop != nil:
		text = stop.Error() + "; " + text
	case p.g.json() || p.refused > shownRefusals:
		text += fmt.Sprintf("; the first refusal: %v", p.first)
	}
	code := exitError
	if p.first != nil {
		code = exitCode(p.first)
	}
	return &failure{code, errors.New(text)}
}

func (p *publisher) summary(w io.Writer, took time.Duration) {
	n, name := p.confirmed.Load(), p.to.Name()
	where := fmt.Sprintf("seq %d", p.last.Seq)
	if p.topic {
		where = "into " + plural(p.last.Queues, "queue")
	}
	stored := ""
	if p.last.Stored != "" {
		stored = ", stored: " + p.last.Stored
	}
	switch {
	case p.known > 0 && p.topic: // there is a dedup id for one message only
		fmt.Fprintf(w, "not published again: all queues bound to %s have it%s\n", name, stored)
	case p.known > 0:
		fmt.Fprintf(w, "not published again: %s has it as %s%s\n", name, where, stored)
	case !p.many:
		fmt.Fprintf(w, "published to %s, %s%s\n", name, where, stored)
	case n == 0:
		fmt.Fprintln(w, "nothing to publish: stdin was empty")
	default:
		fmt.Fprintf(w, "%s published to %s in %s (%s)%s\n", plural(n, "message"), name, short(took), perSecond(n, took), stored)
	}
}
