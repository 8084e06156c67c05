package sim

import (
	"fmt"
	"slices"
	"time"
)

// changeMessage cancels a message, or lets it be due at another time.
func (c *Client) changeMessage() {
	w := c.w
	q := w.check.books["later"]
	if len(w.check.delayed) == 0 {
		return
	}
	i := w.rng.IntN(len(w.check.delayed))
	ch := w.check.delayed[i]
	w.check.delayed = append(w.check.delayed[:i], w.check.delayed[i+1:]...)
	if ch.acked > 0 || ch.seen {
		return
	}
	r := &request{q: q, queue: q.name, chain: ch}
	line := fmt.Sprintf(`"queue":"later","seq":%d`, ch.seq)
	if w.chance(2) {
		r.op = "queue.cancel"
		ch.asked++
	} else {
		r.op, r.delay = "queue.reschedule", w.between(0, 5*time.Second)
		ch.moves++
		ch.m.due = min(ch.m.due, c.conn.life.n.time()+int64(r.delay))
		line += fmt.Sprintf(`,"delay":"%dns"`, r.delay)
	}
	c.conn.ask(r, line)
}

// scratch does to a queue what takes messages away or changes its rules; and it pauses one that is for more than that.
func (c *Client) scratch() {
	w, k := c.w, c.conn
	if w.chance(2) {
		q := w.check.books["work1"]
		op := "queue.pause"
		if q.paused || w.chance(2) {
			op = "queue.resume"
			q.paused = false
			q.resuming++
			q.resumed = w.steps
		}
		k.ask(&request{op: op, q: q, queue: q.name}, `"queue":"work1"`)
		return
	}
	q := w.pick(func(q *queueBook) bool { return q.scratch })
	line := fmt.Sprintf(`"queue":"%s"`, q.name)
	switch w.rng.IntN(6) {
	case 0:
		k.ask(&request{op: "queue.delete", q: q, queue: q.name}, line)
	case 1:
		k.ask(&request{op: "queue.create", q: q, queue: q.name}, line+","+q.make)
	case 2:
		k.ask(&request{op: "queue.purge", q: q, queue: q.name}, line+[]string{"", `,"state":"ready"`, `,"state":"delayed"`, `,"state":"leased"`}[w.rng.IntN(4)])
	case 3:
		k.ask(&request{op: "queue.update", q: q, queue: q.name}, fmt.Sprintf(`%s,"lease":"%dms","max_messages":%d`, line, 500+w.rng.IntN(2000), 5+w.rng.IntN(50)))
	case 4:
		k.ask(&request{op: "queue.peek", q: q, queue: q.name}, line)
	default:
		k.ask(&request{op: []string{"queue.pause", "queue.resume", "queue.resume"}[w.rng.IntN(3)], q: q, queue: q.name}, line)
		q.resuming++
	}
}

// flap binds a queue to topics, or no more.
func (c *Client) flap() {
	op := "queue.bind"
	if c.w.chance(2) {
		op = "queue.unbind"
	}
	c.conn.ask(&request{op: op, queue: "flap"}, `"queue":"flap","topic":"*.b"`)
}

func (c *Client) redrive() {
	q := c.w.pick(func(q *queueBook) bool { return q.max > 0 || q.name == "spills" })
	q.redriven = true
	c.conn.ask(&request{op: "queue.redrive", q: q, queue: q.name + ".dlq"}, fmt.Sprintf(`"queue":"%s.dlq","max":%d`, q.name, 1+c.w.rng.IntN(20)))
}

// prepare has a client see to it that a process has all queues before others come.
func (w *World) prepare(n *Node) {
	l := n.life
	c := &Client{w: w, name: "setup", off: true}
	k := c.dial(n)
	left := 0
	var lines [][2]string
	for _, s := range w.specs() {
		if s.scratch && s.file && l.number > 1 && !w.cfg.Cluster {
			continue
		}
		lines = append(lines, [2]string{"queue.create", fmt.Sprintf(`"queue":"%s",%s`, s.name, s.make)})
		if s.bound != "" {
			lines = append(lines, [2]string{"queue.bind", fmt.Sprintf(`"queue":"%s","topic":"%s"`, s.name, s.bound)})
		}
	}
	var ask func(i int)
	ask = func(i int) {
		if k.closed {
			return
		}
		k.ask(&request{op: lines[i][0], done: func(a *reply) {
			if w.cfg.Cluster && a.OK {
				w.made[lines[i]] = true
			}
			if a.Error != nil && (a.Error.Code == "no_quorum" || a.Error.Code == "unknown_outcome") && !w.made[lines[i]] {
				w.after(50*time.Millisecond, func() { ask(i) })
				return
			}
			if a.Error != nil && (a.Error.Code == "disk_full" || a.Error.Code == "overloaded" || a.Error.Code == "not_found") { // a queue before it can be bound
				w.after(50*time.Millisecond, func() { ask(i) })
				return
			}
			if left--; left == 0 {
				k.close()
				l.ready = true
			}
		}}, lines[i][1])
	}
	lines = slices.DeleteFunc(lines, func(line [2]string) bool { return w.made[line] })
	if left = len(lines); left == 0 {
		k.close()
		l.ready = true
	}
	for i := range lines {
		ask(i)
	}
}
