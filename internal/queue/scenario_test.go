package queue

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios in testdata do into them")

// A scenario is a file in testdata: commands, one a line, then "----" and
// what they answer, then an empty line, and so on. "#" starts a comment.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{rig: newRig(t), consumers: map[string]*Consumer{}, receipts: map[string]string{}}
			got := s.run(string(b))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			} else if got != string(b) {
				t.Errorf("%s is now:\n%s", file, got)
			}
		})
	}
}

type scenario struct {
	*rig
	out       strings.Builder
	consumers map[string]*Consumer
	receipts  map[string]string // by "queue/seq/delivery"
	held      [][]byte
	holding   bool
	decided   []func() // what is to be done when what is held is decided
}

// run carries out the commands of a file and returns it with what they answer.
func (s *scenario) run(file string) string {
	var b strings.Builder
	answer := false
	for line := range strings.Lines(file) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "----":
			answer = true
			b.WriteString("----\n" + s.out.String())
			s.out.Reset()
		case answer && line != "":
		default:
			answer = false
			b.WriteString(line + "\n")
			if line != "" && line[0] != '#' {
				s.do(line)
				if f := check(s.st); f != "" {
					s.Fatalf("after %q: %s", line, f)
				}
			}
		}
	}
	return b.String()
}

// A line of a scenario: the words, and what has a "=" in it.
type line struct {
	words []string
	set   map[string]string
}

func parseLine(text string) line {
	l := line{set: map[string]string{}}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		word, quoted, i := "", false, 0
		for ; i < len(text) && (quoted || text[i] != ' '); i++ {
			if text[i] == '"' {
				quoted = !quoted
				continue
			}
			word += text[i : i+1]
		}
		text = text[i:]
		if k, v, ok := strings.Cut(word, "="); ok {
			l.set[k] = v
		} else {
			l.words = append(l.words, word)
		}
	}
	return l
}

func (l line) duration(key string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(l.set[key]); err == nil {
		return d
	}
	return otherwise
}

func (l line) seqs() (seqs []uint64) {
	for _, w := range l.words[2:] {
		if n, err := strconv.ParseUint(w, 10, 64); err == nil {
			seqs = append(seqs, n)
		}
	}
	return seqs
}

func (s *scenario) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *scenario) do(text string) {
	l := parseLine(text)
	switch l.words[0] {
	case "create", "update", "publish", "batch", "ack", "nack", "purge", "delete", "pause", "resume", "relocate", "cancel", "move", "redrive":
		s.command(l)
	case "subscribe", "receive", "disconnect", "block", "unblock", "take", "shield", "extend":
		s.event(l)
	case "counts", "queues", "holds", "size", "why":
		s.show(l)
	case "hold": // what is proposed from here on is committed later
		s.holding = true
	case "commit": // all, or the first n
		n := len(s.held)
		if len(l.words) > 1 {
			n, _ = strconv.Atoi(l.words[1])
		}
		s.holding = false
		for _, rec := range s.held[:n] {
			s.propose(rec)
		}
		s.held = s.held[n:]
		if s.holding = len(s.held) > 0; !s.holding {
			s.decide()
		}
	case "lose": // what is held is not kept, and the process goes on
		s.lose()
	case "advance":
		d, err := time.ParseDuration(l.words[1])
		if err != nil {
			s.Fatal(err)
		}
		s.now += int64(d)
		s.tick()
	case "restart":
		if len(l.words) > 1 {
			s.snapshot()
		}
		s.held, s.holding, s.decided = nil, false, nil
		clear(s.consumers)
		s.restart(len(l.words) > 1)
	default:
		s.Fatalf("unknown command %q", text)
	}
}

// tick does what the owner's loop does when time has passed.
func (s *scenario) tick() {
	s.st.Due(s.now)
	type end struct {
		q   *Queue
		seq uint64
	}
	var ends []end
	s.st.Expired(s.now, func(q *Queue, seq uint64) { ends = append(ends, end{q, seq}) })
	slices.SortFunc(ends, func(a, b end) int { return int(a.seq) - int(b.seq) })
	for _, e := range ends {
		s.say("lease over: %s %d", e.q.Name, e.seq)
		s.giveBack(e.q, []uint64{e.seq}, "lease expired", -1, true, false)
	}
	ends = nil
	s.st.Outlived(s.now, func(q *Queue, seq uint64) { ends = append(ends, end{q, seq}) })
	slices.SortFunc(ends, func(a, b end) int { return int(a.seq) - int(b.seq) })
	for _, e := range ends {
		s.say("time over: %s %d", e.q.Name, e.seq)
		s.propose(AppendExpire(nil, e.q.ID, s.now, []uint64{e.seq}))
	}
	s.st.Waited(s.now, func(c *Consumer) { s.say("%v has waited long enough", c.Tag) })
}

// lose undoes what was done for the sake of records that were not kept; it is tried again a second later.
func (s *scenario) lose() {
	for _, rec := range s.held {
		q := s.st.ids[uint32(rec[4])]
		for _, seq := range ReturnedSeqs(rec) {
			s.st.Rearm(q, seq, s.now+1e9)
		}
		for _, seq := range HeldSeqs(rec) {
			s.st.Spare(q, seq, s.now+1e9)
		}
	}
	s.held, s.holding = nil, false
	s.decide()
}

func (s *scenario) decide() {
	for _, f := range s.decided {
		f()
	}
	s.decided = nil
}

// giveBack proposes a return. Chance is fixed: the delay is what the settings say without jitter.
func (s *scenario) giveBack(q *Queue, seqs []uint64, reason string, delay time.Duration, counted, dead bool) {
	rs := make([]Return, len(seqs))
	for i, seq := range seqs {
		d := delay
		if d < 0 {
			counted, _ := q.Attempts(seq)
			d = q.Settings.Backoff(counted+1, 1<<63)
		}
		rs[i] = Return{Seq: seq, Due: s.now + int64(d)}
		s.st.Returning(q, seq)
	}
	s.propose(AppendReturn(nil, q.ID, s.now, rs, reason, counted, dead))
}

func (s *scenario) propose(rec []byte) (out Outcome) {
	if s.holding {
		s.held = append(s.held, rec)
		return Outcome{Pending: true}
	}
	out = s.apply(rec)
	if out.Refusal != Done {
		s.say("refused: %s", map[Refusal]string{NoQueue: "no queue", Full: "full", Exists: "exists", TooManyIDs: "too many ids"}[out.Refusal])
	}
	for _, c := range s.st.Removed() {
		s.say("%v is removed: its queue is deleted", c.Tag)
	}
	return out
}

func (s *scenario) settings(l line, v Settings) Settings {
	for key, p := range map[string]*int64{"max_messages": &v.MaxMessages, "max_bytes": &v.MaxBytes, "max_deliveries": &v.MaxDeliveries} {
		if n, err := strconv.ParseInt(l.set[key], 10, 64); err == nil {
			*p = n
		}
	}
	v.TTL, v.DedupWindow = l.duration("ttl", v.TTL), l.duration("dedup_window", v.DedupWindow)
	if x := l.set["dead_letter_expired"]; x != "" {
		v.DeadLetterExpired = x == "true"
	}
	v.Lease = l.duration("lease", v.Lease)
	v.RetryMin, v.RetryMax = l.duration("retry_min", v.RetryMin), l.duration("retry_max", v.RetryMax)
	if i := slices.Index([]string{"reject", "drop_oldest", "dead_letter"}, l.set["overflow"]); i >= 0 {
		v.Overflow = Overflow(i)
	}
	return v
}

// queue is the one that a command names.
func (s *scenario) queue(name string) *Queue {
	if q := s.st.Queue(name); q != nil {
		return q
	}
	return &Queue{ID: 999999, Name: name}
}

func (s *scenario) command(l line) {
	name := l.words[1]
	q := s.queue(name)
	switch l.words[0] {
	case "create":
		v := s.settings(l, testSettings())
		s.propose(AppendCreate(nil, s.st.NewID(), s.now, name, &v))
	case "update":
		v := s.settings(l, q.Settings)
		s.propose(AppendUpdate(nil, q.ID, s.now, &v))
	case "publish":
		for _, body := range l.words[2:] {
			s.publish(q, l, body)
		}
	case "batch":
		s.publish(q, l, l.words[2:]...)
	case "cancel", "move":
		s.change(q, l)
	case "redrive":
		s.redrive(q, l)
	case "ack":
		if out := s.propose(AppendSettle(nil, q.ID, s.now, l.seqs())); !out.Pending && out.Refusal == Done {
			s.say("settled %d", out.N)
		}
	case "nack":
		reason := "nack"
		if r := l.set["reason"]; r != "" {
			reason = "nack: " + r
		}
		dead := slices.Contains(l.words, "dead")
		s.giveBack(q, l.seqs(), reason, l.duration("delay", -1), !slices.Contains(l.words, "uncounted"), dead)
	case "purge":
		s.purge(q, l)
	case "delete":
		s.propose(AppendDelete(nil, q.ID, s.now))
	case "pause", "resume":
		s.propose(AppendPause(nil, q.ID, s.now, l.words[0] == "pause"))
	case "relocate":
		_, m := q.find(l.seqs()[0])
		rec, err := AppendRelocate(nil, q.ID, l.seqs()[0], s.log[m.ref>>6-1])
		if err != nil {
			s.Fatal(err)
		}
		s.propose(rec)
	}
}

// publish stores bodies all or none. "b#i" is the body b with the dedup_id i.
func (s *scenario) publish(q *Queue, l line, bodies ...string) {
	var out Outcome
	for i, body := range bodies {
		body, id, _ := strings.Cut(body, "#")
		p := Publish{Body: []byte(body), Priority: DefaultPriority, Delay: l.duration("delay", 0), At: s.at(l),
			TTL: l.duration("ttl", 0), DedupID: []byte(id), Key: []byte(l.set["key"]), More: i < len(bodies)-1}
		if n, err := strconv.Atoi(l.set["priority"]); err == nil {
			p.Priority = uint8(n)
		}
		rec := AppendPublish(nil, &p)
		Address(rec, q.ID, s.now)
		out = s.propose(rec)
	}
	for i, known := range out.Known {
		if known {
			s.say("%q is known: %s %d", bodies[i], q.Name, out.Seqs[i])
		}
	}
}

// at is a point in time, given as the time since the beginning.
func (s *scenario) at(l line) int64 {
	if l.set["at"] == "" {
		return 0
	}
	return start + int64(l.duration("at", 0))
}

// change ends or moves messages as the owner does.
func (s *scenario) change(q *Queue, l line) {
	for _, seq := range l.seqs() {
		if s.st.Holds(q, seq, Receipt{}) == Settled {
			s.say("%s has no %d", q.Name, seq)
			continue
		}
		if !s.st.Hold(q, seq) {
			s.say("%s %d is leased", q.Name, seq)
			continue
		}
		if l.words[0] == "cancel" {
			s.propose(AppendCancel(nil, q.ID, s.now, seq))
			continue
		}
		due := s.at(l)
		if due == 0 {
			due = s.now + int64(l.duration("delay", 0))
		}
		s.propose(AppendMoveTo(nil, q.ID, s.now, seq, due))
	}
}

// purge ends all messages, or those in one state.
func (s *scenario) purge(q *Queue, l line) {
	rec := AppendPurge(nil, q.ID, s.now)
	if state := l.set["state"]; state != "" {
		p := s.st.Purgeable(q, state)
		rec = AppendPurgeState(nil, q.ID, s.now, p)
		if p.But {
			s.decided = append(s.decided, func() { s.st.Thaw(q) })
		}
	}
	if out := s.propose(rec); !out.Pending {
		s.say("purged %d", out.N)
		s.decide()
	}
}

// redrive moves dead letters to where they came from, or to a queue, as the owner does.
func (s *scenario) redrive(q *Queue, l line) {
	limit, to := 100, uint32(0)
	if n, err := strconv.Atoi(l.set["max"]); err == nil {
		limit = n
	}
	if name := l.set["to"]; name != "" {
		to = s.queue(name).ID
	}
	seqs := s.st.Redrivable(q, limit, to == 0)
	if out := s.propose(AppendRedrive(nil, q.ID, s.now, to, seqs)); !out.Pending {
		s.say("moved %d of %d", out.N, len(seqs))
	}
}

func (s *scenario) event(l line) {
	c := (*Consumer)(nil)
	if len(l.words) > 1 {
		c = s.consumers[l.words[1]]
	}
	switch l.words[0] {
	case "subscribe", "receive":
		q := s.queue(l.words[2])
		c = &Consumer{Queue: q, Tag: l.words[1], Limit: 1, Lease: l.duration("lease", q.Settings.Lease), Crew: &Crew{}}
		if n, err := strconv.Atoi(l.set["credit"]); err == nil {
			c.Limit = n
		}
		if l.words[0] == "receive" {
			c.Until = s.now + int64(l.duration("wait", 0))
		}
		s.consumers[l.words[1]] = c
		s.st.Subscribe(c)
	case "disconnect":
		if seqs := s.st.Unsubscribe(c); len(seqs) > 0 {
			slices.Sort(seqs)
			s.giveBack(c.Queue, seqs, "connection lost", 0, true, false)
		}
	case "block":
		s.st.Block(c.Crew)
	case "unblock":
		s.st.Unblock(c.Crew)
	case "extend":
		for _, seq := range l.seqs() {
			if !s.st.Extend(s.queue(l.words[1]), seq, s.now+int64(l.duration("by", 0))) {
				s.say("%s %d is not leased", l.words[1], seq)
			}
		}
	case "shield": // as the owner does in front of a publish
		q := s.queue(l.words[1])
		n, _ := strconv.Atoi(l.words[2])
		s.propose(AppendShield(nil, q.ID, s.now, q.Shield(n)))
	case "take":
		s.take(l)
	}
}

// take takes what there is, at most n where a number is given.
func (s *scenario) take(l line) {
	n := 1 << 30
	if len(l.words) > 1 {
		n, _ = strconv.Atoi(l.words[1])
	}
	for ; n > 0; n-- {
		d, ok := s.st.Take(s.now)
		if !ok {
			break
		}
		if d.Seq == 0 {
			d, _ = s.st.TakeFor(d.C, s.now)
		}
		e, err := ParseEnvelope(s.log[d.Span.Ref>>6-1])
		if err != nil {
			s.Fatal(err)
		}
		more := ""
		if d.Redelivered {
			more = ", redelivered"
		}
		if d.Dead != nil {
			more += fmt.Sprintf(", dead of %s %d after %d: %s", d.Dead.Queue, d.Dead.Seq, d.Dead.Attempts, d.Dead.Reason)
		}
		q := d.C.Queue.Name
		s.receipts[fmt.Sprintf("%s/%d/%d.%d", q, d.Seq, s.boot, d.Number)] = string(AppendReceipt(nil, s.st.Receipt(d.C.Queue, d.Number)))
		s.say("%v gets %s %d %q, attempt %d%s", d.C.Tag, q, d.Seq, e.Body, d.Attempt, more)
	}
}

func (s *scenario) show(l line) {
	switch l.words[0] {
	case "queues":
		for _, q := range s.st.Queues() {
			s.say("%s: %d messages, max_deliveries %d, max_messages %d", q.Name, q.Counts.Live(), q.Settings.MaxDeliveries, q.Settings.MaxMessages)
		}
		counted, _ := s.st.Counted()
		s.say("%d count towards the limit", counted)
	case "counts":
		c := s.queue(l.words[1]).Counts
		s.out.WriteString("published " + strconv.FormatUint(c.Published, 10) + " =")
		for _, x := range []struct {
			name string
			n    uint64
		}{{"ready", uint64(c.Ready)}, {"delayed", uint64(c.Delayed)}, {"leased", uint64(c.Leased)}, {"acked", c.Acked},
			{"expired", c.Expired}, {"dead", c.Dead}, {"dropped", c.Dropped}, {"cancelled", c.Cancelled}, {"purged", c.Purged}, {"redriven", c.Redriven}} {
			if x.n > 0 {
				fmt.Fprintf(&s.out, " %s %d", x.name, x.n)
			}
		}
		s.out.WriteString("\n")
	case "why":
		q := s.queue(l.words[1])
		for _, seq := range l.seqs() {
			x := s.st.Explain(q, seq)
			s.say("%s %d: %s, %s", q.Name, seq, x.State, s.because(x))
		}
	case "size":
		q := s.queue(l.words[1])
		age := time.Duration(0)
		if at := q.Oldest(); at != 0 {
			age = time.Duration(s.now - at)
		}
		s.say("%d bytes, the oldest %v old, %d consumers, %d records retained", q.Bytes, age, q.Consumers, len(s.live))
	case "holds": // holds QUEUE SEQ LIFE.DELIVERY, or without a receipt
		var receipt Receipt
		if len(l.words) > 3 {
			var ok bool
			r := s.receipts[l.words[1]+"/"+l.words[2]+"/"+l.words[3]]
			if receipt, ok = ParseReceipt([]byte(r)); !ok {
				s.Fatalf("no receipt %v", l.words)
			}
		}
		h := s.st.Holds(s.queue(l.words[1]), l.seqs()[0], receipt)
		s.say("%s", [...]string{Settled: "settled", Current: "current", Unleased: "unleased", Back: "back", Stale: "stale"}[h])
	}
}

// because is why a message is not being delivered.
func (s *scenario) because(x Explanation) string {
	wait := time.Duration(x.Until - s.now)
	switch x.Reason {
	case Over:
		last := x.History[len(x.History)-1]
		return strings.TrimSuffix(last.What+": "+last.Reason, ": ")
	case Delayed:
		return fmt.Sprintf("due in %v", wait)
	case Retrying:
		return fmt.Sprintf("tried again in %v", wait)
	case Out:
		return fmt.Sprintf("%v has it", x.Consumer.Tag)
	case BehindKey:
		return fmt.Sprintf("%d has the same key and goes first", x.Ahead)
	case BehindPriority:
		return fmt.Sprintf("%d is more urgent", x.Ahead)
	case BehindOlder:
		return fmt.Sprintf("%d is older", x.Ahead)
	}
	return [...]string{Unknown: "never heard of", Ended: "its end is on its way", IsPaused: "the queue is paused", NoConsumer: "nobody wants it",
		NoCredit: "nobody can take more", Next: "it is next"}[x.Reason]
}
