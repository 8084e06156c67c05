package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	gmq "github.com/gmq/gmq/client"
)

const (
	// topAsks is how many queues are asked for more than the list tells: those with the most messages.
	topAsks = 500
	// topAtOnce is how many of these questions are under way at a time.
	topAtOnce = 32
	// topPeeks is how many messages one queue's detail shows.
	topPeeks = 200
)

func newTop(g *globals) *cobra.Command {
	f := &topFlags{sort: choice{value: "ready", values: topColumnNames()}}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the queues, live",
		Long: `Top shows the queues of a server and what goes on in them, and looks again every --every. Enter shows
one queue with its messages. Rates are known of the 500 queues with the most messages, and from the second look on. With
--once it prints one table, rates included, and ends.`,
		Example: `  gmq top
  gmq top --sort in --every 5s
  gmq top --prefix orders. --once`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       remote,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.every < 100*time.Millisecond:
				return usage("--every: want 100ms or more, not %v", f.every)
			case g.json():
				return usage("top has no JSON: gmq queue ls -o json, or the admin address under /api/")
			case !f.once && (!onTerminal(os.Stdin) || !onTerminal(cmd.OutOrStdout())):
				return usage("top needs a terminal; --once prints one table without")
			}
			return top(cmd, g, f)
		},
	}
	fs := cmd.Flags()
	fs.DurationVar(&f.every, "every", 2*time.Second, "how long to wait between two looks")
	fs.Var(&f.sort, "sort", "`column` to sort by: "+strings.Join(f.sort.values, ", "))
	fs.StringVar(&f.prefix, "prefix", "", "only queues whose names begin so")
	fs.BoolVar(&f.once, "once", false, "print one table and end")
	complete(cmd, "every")
	complete(cmd, "sort", f.sort.values...)
	complete(cmd, "prefix")
	return cmd
}

type topFlags struct {
	every  time.Duration
	sort   choice
	prefix string
	once   bool
}

func top(cmd *cobra.Command, g *globals, f *topFlags) error {
	parent, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	m := newTopModel(g.address(), f.sort.value, f.prefix)
	// A connection that is lost comes back by itself; meanwhile looks fail, and the screen says so.
	c, ctx, closing, err := g.connect(parent, func() {})
	if err != nil {
		return err
	}
	defer closing()
	look := func(about topQuestion) topLook {
		asking, cancel := g.context(ctx)
		defer cancel()
		return lookAt(asking, c, about)
	}
	if f.once {
		return topOnce(ctx, cmd.OutOrStdout(), m, f.every, look)
	}
	return topLive(ctx, m, f.every, look)
}

// topOnce prints what there is, after two looks.
func topOnce(ctx context.Context, w io.Writer, m *topModel, every time.Duration, look func(topQuestion) topLook) error {
	for i := range 2 {
		l := look(m.question())
		if l.err != nil {
			return explain(ctx, l.err)
		}
		m.take(l)
		if i == 0 {
			select {
			case <-time.After(every):
			case <-ctx.Done():
				return nil
			}
		}
	}
	return table(w, 2, m.table())
}

// topLive owns the screen until somebody wants no more.
func topLive(ctx context.Context, m *topModel, every time.Duration, look func(topQuestion) topLook) error {
	in, out := int(os.Stdin.Fd()), os.Stdout
	before, err := term.MakeRaw(in)
	if err != nil {
		return err
	}
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l") // another screen, and no cursor
	defer func() {
		fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")
		_ = term.Restore(in, before) // it was a terminal a moment ago; nobody could do anything about it
	}()
	keys := make(chan string)
	go readKeys(os.Stdin, keys)
	looks := make(chan topLook, 1)
	ask := func() {
		about := m.question() // m is this goroutine's
		go func() { looks <- look(about) }()
	}
	ask()
	var timer <-chan time.Time
	for {
		width, height := screenSize()
		paint(out, m.view(width, height), width)
		select {
		case <-ctx.Done():
			return nil
		case key, ok := <-keys:
			if !ok || m.key(key, height) {
				return nil
			}
			if timer != nil && m.hurry() { // another queue is wanted
				timer = nil
				ask()
			}
		case l := <-looks:
			m.take(l)
			if m.hurry() { // it was wanted meanwhile
				ask()
				continue
			}
			timer = time.After(max(every, 20*l.took))
		case <-timer:
			timer = nil
			ask()
		}
	}
}

// screenSize is that of the terminal, or what is usual where it does not say.
func screenSize() (width, height int) {
	width, height, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || width <= 0 || height <= 2 {
		return 80, 24
	}
	return width, height
}

// paint writes lines over what was there.
func paint(w io.Writer, lines []string, width int) {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(fit(line, width) + "\x1b[0m\x1b[K")
	}
	b.WriteString("\x1b[J")
	io.WriteString(w, b.String())
}

// readKeys gives what is typed, a key at a time: its letter, or its name.
func readKeys(r io.Reader, keys chan<- string) {
	defer close(keys)
	var buf [64]byte
	for {
		n, err := r.Read(buf[:])
		for _, key := range splitKeys(string(buf[:n])) {
			keys <- key
		}
		if err != nil {
			return
		}
	}
}

var keyNames = map[string]string{
	"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b[5~": "pageup", "\x1b[6~": "pagedown", "\x1b[H": "home", "\x1b[F": "end",
	"\r": "enter", "\n": "enter", "\x1b": "escape", "\x7f": "backspace", "\b": "backspace", "\x03": "quit", "\x1b[D": "escape", "\x1b[C": "enter",
}

// splitKeys cuts what came at once into keys. A sequence that is none of ours is nothing.
func splitKeys(s string) (keys []string) {
	for len(s) > 0 {
		n := 1
		if s[0] == 0x1b && len(s) > 2 && (s[1] == '[' || s[1] == 'O') {
			n = 3
			for n < len(s) && s[n-1] < '@' { // up to the letter, or ~, that ends it (ECMA-48, 5.4)
				n++
			}
		}
		key := s[:n]
		s = s[n:]
		if name := keyNames[key]; name != "" {
			keys = append(keys, name)
		} else if n == 1 && key[0] >= ' ' && key[0] < 0x7f {
			keys = append(keys, key)
		}
	}
	return keys
}

// A topQuestion is what the screen wants to know.
type topQuestion struct {
	prefix string
	detail string // of this queue everything; "" of none
}

// A topLook is one look at a server.
type topLook struct {
	at     time.Time
	took   time.Duration
	about  topQuestion
	hello  gmq.Hello
	queues []topQueue
	detail *topDetail
	err    error
}

// A topQueue is a queue as a look has found it.
type topQueue struct {
	gmq.QueueSummary
	info *gmq.QueueInfo // nil where nobody has asked, or may
}

// A topDetail is what is shown of one queue.
type topDetail struct {
	messages []*gmq.Peeked
	err      error
}

func lookAt(ctx context.Context, c *gmq.Client, about topQuestion) topLook {
	l := topLook{at: time.Now(), about: about, hello: c.Hello()}
	for q, err := range c.ListQueues(ctx, about.prefix) {
		if err != nil {
			l.err = err
			return l
		}
		l.queues = append(l.queues, topQueue{QueueSummary: q})
	}
	deepest := make([]*topQueue, len(l.queues))
	for i := range l.queues {
		deepest[i] = &l.queues[i]
	}
	slices.SortStableFunc(deepest, func(a, b *topQueue) int {
		if (a.Queue == about.detail) != (b.Queue == about.detail) {
			return map[bool]int{true: -1, false: 1}[a.Queue == about.detail]
		}
		return int(min(b.depth(), 1<<40)) - int(min(a.depth(), 1<<40))
	})
	var running sync.WaitGroup
	slots := make(chan struct{}, topAtOnce)
	for _, q := range deepest[:min(len(deepest), topAsks)] {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			if info, err := c.QueueInfo(ctx, q.Queue); err == nil { // gone meanwhile, or not for this user
				q.info = &info
			}
		})
	}
	running.Wait()
	if about.detail != "" {
		l.detail = &topDetail{}
		for m, err := range c.Queue(about.detail).Peek(ctx, "", 0, topPeeks) {
			if err != nil {
				l.detail.err = err
				break
			}
			l.detail.messages = append(l.detail.messages, m)
		}
	}
	l.took = time.Since(l.at)
	return l
}

func (q *topQueue) depth() uint64 { return q.Ready + q.Leased + q.Delayed }
