package sim

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Client is one program that publishes and consumes. It is not always there, and not always fast.
type Client struct {
	w    *World
	name string
	conn *conn
	held []*delivery // not settled yet, of this and of earlier connections
	keep []*message  // with a dedup_id: sent, and nobody knows what became of them
	off  bool        // does nothing any more
}

// A request is a line that waits for its reply.
type request struct {
	op       string
	nth      int
	queue    string
	q        *queueBook
	messages []*message
	list     []*delivery
	chain    *chain
	delay    time.Duration
	counts   bool // a nack that counts as an attempt
	wall     int64
	step     uint64
	max      int
	floor    uint64 // the highest number confirmed when it was sent
	auto     bool
	sub      *subscription
	done     func(a *reply) // instead of being entered
	then     func()         // when it has been
}

type subscription struct {
	number uint64
	queue  string
	q      *queueBook
	auto   bool
	ended  bool
	topic  bool
	last   uint64 // of a topic: the number of the latest delivery
}

func (w *World) addClient() *Client {
	c := &Client{w: w, name: fmt.Sprint("c", len(w.clients)+1)}
	w.clients = append(w.clients, c)
	w.afterAt(nil, w.between(0, 50*time.Millisecond), c.act)
	return c
}

// node is where the client goes: any that is up.
func (c *Client) node() *Node {
	n := c.w.nodes[c.w.rng.IntN(len(c.w.nodes))]
	if n.life == nil || !n.life.ready || n.life.failed != 0 {
		return nil
	}
	return n
}

func (c *Client) lost(k *conn) {
	if c.conn == k {
		c.conn = nil
	}
	for _, id := range slices.Sorted(maps.Keys(k.asked)) {
		if r := k.asked[id]; r.op == "publish" && r.q != nil && r.q.ids {
			c.keep = append(c.keep, r.messages...)
		}
	}
}

// ask sends a request; rest is what its line holds besides op and id.
func (k *conn) ask(r *request, rest string) {
	k.lastID++
	r.nth, r.wall, r.step = k.lastID, k.life.n.time(), k.c.w.steps
	k.asked[r.nth] = r
	if r.q != nil {
		r.floor = r.q.highest
	}
	k.send(fmt.Sprintf(`{"op":"%s","id":%d,%s}`, r.op, r.nth, rest))
}

// act does the next thing, and sees to it that there is one after that.
func (c *Client) act() {
	w := c.w
	if c.off {
		return
	}
	if w.afterAt(nil, w.pause(), c.act); w.spell == silent || w.spell == still {
		return
	}
	if c.conn == nil || c.conn.closed {
		if n := c.node(); n != nil && !w.chance(4) {
			c.conn = c.dial(n)
		}
		return
	}
	for i := w.rng.IntN(4); i >= 0 && !c.conn.closed; i-- { // several things may go out together
		c.doSomething()
	}
}

func (c *Client) doSomething() {
	k, w := c.conn, c.w
	switch n := w.rng.IntN(100); {
	case len(k.asked) > 40:
	case n < 30:
		c.publish(w.pick(nil))
	case n < 36:
		c.publishTopic()
	case n < 52:
		c.receive(w.pick(nil))
	case n < 57:
		c.subscribe(w.pick(nil))
	case n < 59:
		c.unsubscribe()
	case n < 88:
		c.settleSome()
	case n < 91:
		c.changeMessage()
	case n < 93:
		c.scratch()
	case n < 94:
		c.flap()
	case n < 95:
		c.redrive()
	case n < 97:
		q := w.pick(nil)
		k.ask(&request{op: "queue.info", q: q, queue: q.name}, fmt.Sprintf(`"queue":"%s"`, q.name))
	case n < 98:
		k.stuck = !k.stuck && !w.cfg.alone() && !w.cfg.Cluster // then nobody here could say when a leader had said something
	case w.chance(3):
		k.close()
	}
}

// pick is a queue by chance, one for which ok holds.
func (w *World) pick(ok func(*queueBook) bool) *queueBook {
	sum := 0
	for _, s := range w.specs() {
		if ok == nil || ok(w.check.books[s.name]) {
			sum += s.weight
		}
	}
	n := w.rng.IntN(sum)
	for _, s := range w.specs() {
		if b := w.check.books[s.name]; ok == nil || ok(b) {
			if n -= s.weight; n < 0 {
				return b
			}
		}
	}
	return nil
}

var pieces = []string{"x", "lorem ipsum ", "ünïcödé € 漢 ", `\"\\\/\u00e9\n`, "0000000000", "{}[],:"}

// body is JSON of some kind that has the number in it before any other digit.
func (w *World) body(number int) (text, encoding string) {
	var pad strings.Builder
	size := w.rng.IntN(200)
	switch {
	case w.chance(12):
		size = w.rng.IntN(4000)
	case w.chance(80):
		size = 8_000 + w.rng.IntN(40_000)
	}
	for pad.Len() < size {
		pad.WriteString(pieces[w.rng.IntN(len(pieces))])
	}
	switch w.rng.IntN(5) {
	case 0:
		return fmt.Sprintf(`{"n": %d , "p":"%s"}`, number, pad.String()), ""
	case 1:
		return fmt.Sprintf(`[%d,null,true,1e5,"%s"]`, number, pad.String()), ""
	case 2:
		return `"` + base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("%d\x00%s", number, pad.String()))) + `"`, "base64"
	case 3:
		return fmt.Sprint(number), ""
	}
	return fmt.Sprintf(`"%d %s"`, number, pad.String()), ""
}

// compose makes a new message for q (nil: to a topic), and its fields as JSON.
func (c *Client) compose(q *queueBook) (*message, string) {
	w := c.w
	now := c.conn.life.n.time()
	m := w.check.newMessage(c.conn.life)
	m.body, m.encoding = w.body(m.number)
	fields := `"body":` + m.body
	if m.encoding != "" {
		fields += `,"encoding":"base64"`
	}
	if w.chance(5) {
		m.headers = fmt.Sprintf(`{"h": "%d","t":"\u00fc"}`, m.number)
		fields += `,"headers":` + m.headers
	}
	if q == nil {
		return m, fields
	}
	if q.ids {
		m.dedup = fmt.Sprint("d", m.number)
		fields += fmt.Sprintf(`,"dedup_id":"%s"`, m.dedup)
	}
	if q.keyed && !w.chance(6) {
		m.key = fmt.Sprint("k", w.rng.IntN(5))
		fields += fmt.Sprintf(`,"key":"%s"`, m.key)
	}
	m.priority = 4
	if q.ranks {
		m.priority = w.rng.IntN(10)
		fields += fmt.Sprintf(`,"priority":%d`, m.priority)
	}
	if q.later {
		m.delay = w.between(0, 6*time.Second)
		m.due = now + int64(m.delay)
		if w.chance(3) {
			at := time.Unix(0, m.due).UTC()
			fields += fmt.Sprintf(`,"at":"%s"`, at.Format(time.RFC3339Nano))
			m.delay = 0
		} else {
			fields += fmt.Sprintf(`,"delay":"%dns"`, m.delay)
		}
	}
	if m.ttl = q.ttl; q.ttl > 0 && w.chance(3) {
		m.ttl = w.between(500*time.Millisecond, q.ttl)
		fields += fmt.Sprintf(`,"ttl":"%dns"`, m.ttl)
	}
	return m, fields
}

func (c *Client) publish(q *queueBook) {
	w := c.w
	if q.ids && len(c.keep) > 0 && !w.chance(3) { // what has no confirm is sent again
		m := c.keep[0]
		c.keep = c.keep[1:]
		c.publishAgain(q, m)
		return
	}
	n := 1
	if w.chance(4) {
		n = 2 + w.rng.IntN(5)
	}
	r := &request{op: "publish", q: q, queue: q.name}
	var parts []string
	for range n {
		m, fields := c.compose(q)
		w.check.addChain(m, q)
		r.messages = append(r.messages, m)
		parts = append(parts, fields)
	}
	if n == 1 {
		c.conn.ask(r, fmt.Sprintf(`"queue":"%s",%s`, q.name, parts[0]))
		return
	}
	g := &group{what: "a batch"}
	for _, m := range r.messages {
		g.chains = append(g.chains, m.chains...)
	}
	if !q.ids { // of which each may be sent again alone
		w.check.addGroup(g)
	}
	c.conn.ask(r, fmt.Sprintf(`"queue":"%s","messages":[{%s}]`, q.name, strings.Join(parts, `},{`)))
}

func (c *Client) publishAgain(q *queueBook, m *message) {
	if m.status == unknown {
		m.status = open
	}
	m.repeated = true
	fields := `"body":` + m.body
	if m.encoding != "" {
		fields += `,"encoding":"base64"`
	}
	if m.headers != "" {
		fields += `,"headers":` + m.headers
	}
	c.w.stats.Repeats++
	c.conn.ask(&request{op: "publish", q: q, queue: q.name, messages: []*message{m}}, fmt.Sprintf(`"queue":"%s",%s,"dedup_id":"%s"`, q.name, fields, m.dedup))
}

var topicNames = []string{"a.b", "x.y.z", "full.one"}

func (c *Client) publishTopic() {
	w := c.w
	m, fields := c.compose(nil)
	m.topic, m.priority = topicNames[w.rng.IntN(len(topicNames))], 4
	g := &group{what: "a publish to " + m.topic}
	for _, s := range w.specs() {
		if s.bound == ">" || s.bound == "full.>" && m.topic == "full.one" {
			w.check.addChain(m, w.check.books[s.name])
		}
	}
	g.chains = append(g.chains, m.chains...)
	w.check.addGroup(g)
	c.conn.ask(&request{op: "publish", messages: []*message{m}}, fmt.Sprintf(`"topic":"%s",%s`, m.topic, fields))
}

// source is where to consume from: the queue or what has died in it.
func (w *World) source(q *queueBook) string {
	if q.max > 0 || q.limit > 0 && q.bound == "" {
		if w.chance(4) {
			return q.name + ".dlq"
		}
	}
	return q.name
}

func (c *Client) receive(q *queueBook) {
	w := c.w
	r := &request{op: "receive", q: q, queue: w.source(q), max: 1 + w.rng.IntN(8)}
	line := fmt.Sprintf(`"queue":"%s","max":%d,"create":false`, r.queue, r.max)
	if w.chance(3) {
		line += fmt.Sprintf(`,"wait":"%dms"`, w.rng.IntN(2000))
	}
	if q.auto && !w.chance(3) {
		r.auto = true
		line += `,"ack":"auto"`
	}
	c.conn.ask(r, line)
}

func (c *Client) subscribe(q *queueBook) {
	w := c.w
	if len(c.conn.subs) > 5 {
		return
	}
	s := &subscription{q: q, queue: w.source(q), auto: q.auto && w.chance(2)}
	r := &request{op: "subscribe", q: q, queue: s.queue, sub: s}
	if w.chance(8) {
		s.topic, s.q, s.queue = true, nil, ""
		c.conn.ask(r, `"topic":"*.b","credit":5`)
		return
	}
	line := fmt.Sprintf(`"queue":"%s","create":false,"credit":%d`, s.queue, 1+w.rng.IntN(8))
	if s.auto {
		line += `,"ack":"auto"`
	}
	c.conn.ask(r, line)
}

func (c *Client) unsubscribe() {
	for n := uint64(1); n < 400; n++ { // in order: what a map gives is nobody's choice
		if s := c.conn.subs[n]; s != nil && !s.ended && c.w.chance(2) {
			s.ended = true
			c.conn.ask(&request{op: "unsubscribe", sub: s}, fmt.Sprintf(`"sub":%d`, n))
			return
		}
	}
}

// settleSome deals with some of what the client has got, from one queue.
func (c *Client) settleSome() {
	w := c.w
	if len(c.held) == 0 {
		return
	}
	if len(c.held) > 60 { // it has forgotten the oldest
		c.held = c.held[30:]
	}
	first := w.rng.IntN(len(c.held))
	queue := c.held[first].queue
	if w.chance(12) {
		c.held = append(c.held[:first], c.held[first+1:]...) // it never will
		return
	}
	var list []*delivery
	kept := c.held[:0]
	for i, d := range c.held {
		if i >= first && d.queue == queue && len(list) < 6 && (len(list) == 0 || w.chance(2)) && !slices.ContainsFunc(list, func(o *delivery) bool { return o.seq == d.seq }) {
			list = append(list, d)
		} else {
			kept = append(kept, d)
		}
	}
	c.held = kept
	n := w.rng.IntN(20)
	if list[0].k.life != c.conn.life { // what an earlier process gave
		n += 8
	}
	switch {
	case n < 15:
		c.ack(list)
	case n != 19 || len(list) > 1:
		c.nack(list)
		if q := list[0].book(); q != nil && list[0].k.life != c.conn.life {
			c.receive(q) // at once, while the return is on its way
		}
	default:
		c.held = append(c.held, list[0])
		c.extend(list[0])
	}
}

func named(list []*delivery, receipts bool) string {
	var seqs, rs []string
	for _, d := range list {
		seqs = append(seqs, fmt.Sprint(d.seq))
		rs = append(rs, `"`+d.receipt+`"`)
	}
	line := fmt.Sprintf(`"queue":"%s","seq":[%s]`, list[0].queue, strings.Join(seqs, ","))
	if receipts {
		line += fmt.Sprintf(`,"receipt":[%s]`, strings.Join(rs, ","))
	}
	return line
}

func (c *Client) ack(list []*delivery) {
	for _, d := range list {
		if d.chain != nil {
			d.chain.asked++
		}
	}
	r, named := &request{op: "ack", queue: list[0].queue, list: list}, named(list, !c.w.chance(10))
	if c.w.Seed%5 == 0 && c.conn.lastID%4 == 0 {
		c.conn.askQuietly(r, named)
		return
	}
	c.conn.ask(r, named)
}

// askQuietly has an ack carried out without an answer: whether it was is not known.
func (k *conn) askQuietly(r *request, rest string) {
	k.ask(r, rest+`,"quiet":true`)
	delete(k.asked, r.nth)
	k.quiet[r.nth] = true
	for _, d := range r.list {
		d.chain.unsure()
	}
	k.c.w.stats.Quiet++
}

func (c *Client) nack(list []*delivery) {
	w := c.w
	r := &request{op: "nack", queue: list[0].queue, list: list, counts: true}
	line := named(list, true)
	q := list[0].book()
	if q != nil {
		r.delay = q.retry
	}
	if w.chance(3) {
		r.delay = w.between(0, 3*time.Second)
		line += fmt.Sprintf(`,"delay":"%dns"`, r.delay)
	}
	if w.chance(5) {
		r.counts = false
		line += `,"count":false`
	} else if q != nil && q.max > 0 && list[0].queue == q.name && w.chance(3) {
		line += `,"dead":true,"reason":"no good"`
	}
	for _, d := range list {
		if d.returned = true; d.chain != nil {
			d.chain.returned = true
		}
	}
	c.conn.ask(r, line)
}

func (d *delivery) book() *queueBook {
	if d.chain == nil {
		return nil
	}
	return d.chain.q
}

func (c *Client) extend(d *delivery) {
	lease := c.w.between(200*time.Millisecond, 6*time.Second)
	d.leaseEnd = min(d.leaseEnd, d.k.life.n.time()+int64(lease))
	c.conn.ask(&request{op: "extend", queue: d.queue, list: []*delivery{d}}, named([]*delivery{d}, true)+fmt.Sprintf(`,"lease":"%dns"`, lease))
}
