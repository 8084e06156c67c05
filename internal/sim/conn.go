package sim

import (
	"bytes"
	"time"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/wire"
)

// A conn is a client's connection to a process: what the client writes waits in it to be read, what the process sends
// is entered in the books as it leaves.
type conn struct {
	c       *Client
	life    *life
	session *broker.Session
	number  int

	in     [][]byte
	ring   chan struct{} // there is something in in, or the end; holds one
	closed bool          // by the client, or lost
	gone   uint64        // the step in which it was
	since  moment        // it is there
	over   chan struct{} // closed when everything was sent
	stuck  bool          // the client does not read for the time being

	reader, writer *task
	lastID         int
	asked          map[int]*request
	quiet          map[int]bool // asked without wanting an answer
	subs           map[uint64]*subscription
	published      map[string]place // by queue: the latest publish whose confirm has come
}

func (c *Client) dial(n *Node) *conn {
	l := n.life
	w := c.w
	w.stats.Sessions++
	k := &conn{
		c: c, life: l, session: l.broker.NewSession(c.name), number: w.stats.Sessions, ring: make(chan struct{}, 1), over: make(chan struct{}),
		asked: map[int]*request{}, quiet: map[int]bool{}, subs: map[uint64]*subscription{}, published: map[string]place{},
	}
	k.reader, k.writer = n.home.start(c.name+"<", k.read), n.home.start(c.name+">", k.write)
	l.tasks = append(l.tasks, k.reader, k.writer)
	l.conns = append(l.conns, k)
	k.since = k.moment()
	w.note(c.name, "connects to %s, session %d", n.name, k.number)
	return k
}

// send writes a line.
func (k *conn) send(line string) {
	k.c.w.note(k.c.name, "> %s", line)
	k.in = append(k.in, []byte(line))
	k.knock()
}

func (k *conn) knock() {
	k.life.n.home.stirred = true
	select {
	case k.ring <- struct{}{}:
	default:
	}
}

// close is the client's hanging up.
func (k *conn) close() {
	if !k.closed {
		k.closed, k.gone = true, k.c.w.steps
		k.c.w.note(k.c.name, "hangs up")
		k.knock()
	}
}

// lose is what the end of the process makes of a connection.
func (k *conn) lose() {
	if !k.closed {
		k.closed, k.gone = true, k.c.w.steps
	}
	k.c.w.check.lost(k)
	k.c.lost(k)
}

// read is the server's reader of the connection.
func (k *conn) read() {
	w := k.c.w
	dec := wire.NewDecoder(1 << 20)
	var req wire.Request
	for {
		for len(k.in) == 0 && !k.closed {
			w.await(k.ring, -1)
		}
		if len(k.in) == 0 {
			k.session.Close()
			return
		}
		n := 1 + w.rng.IntN(len(k.in)) // as the network has brought them together
		lines := k.in[:n]
		k.in = k.in[n:]
		for _, line := range lines {
			if err := dec.Decode(line, &req); err != nil {
				k.session.Refuse(req.ID, err)
			} else {
				k.session.Intake.Handle(&req)
			}
		}
		k.session.Intake.Flush()
		k.session.Await()
	}
}

// write is the server's writer of the connection. What it takes out was handed over between lo and the present step.
func (k *conn) write() {
	w := k.c.w
	defer close(k.over)
	from := k.since
	chunks, more := k.session.Outgoing(nil)
	for ; more; chunks, more = k.session.Outgoing(chunks[:0]) {
		lo := from
		if k.writer.parks > 0 {
			lo = k.writer.woken
			lo.ahead = k.life.n.ahead
		}
		lo = k.life.atLeader(lo, from.step)
		var text []byte
		for _, b := range broker.Bytes(nil, chunks) {
			text = append(text, b...)
		}
		from = k.moment()
		for len(text) > 0 {
			i := bytes.IndexByte(text, '\n')
			if i < 0 {
				w.wrong("%s was sent half a line: %s", k.c.name, text)
				return
			}
			k.got(text[:i], lo)
			text = text[i+1:]
		}
		for k.stuck && !k.closed {
			w.sleep(time.Duration(1+w.rng.IntN(20)) * time.Millisecond)
		}
		k.session.Sent(chunks)
		k.writer.parks = 0
	}
}

// A moment is a step, and what the clocks showed then.
type moment struct {
	step  uint64
	at    time.Duration
	ahead time.Duration
}

func (k *conn) moment() moment { return moment{k.c.w.steps, k.c.w.now, k.life.n.ahead} }

// turnTime is how long one turn of a shard may take: what it says of the time was true when it began.
const turnTime = 100 * time.Millisecond

// wall is a time that a node's clock had reached by then, however it has jumped since.
func (m moment) wall(n *Node) int64 { return epoch + int64(m.at+min(m.ahead, n.ahead)-turnTime) }

// least is the earliest time that a turn which ended by then may have gone by: it may have begun before the clock jumped.
func (m moment) least(n *Node) int64 {
	if m.at <= n.jumpedAt+turnTime {
		m.ahead = min(m.ahead, n.before)
	}
	return m.wall(n)
}
