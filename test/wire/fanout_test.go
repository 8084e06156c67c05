package wire_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

const mb = 1 << 20

// taken is what a storage takes, and how much of it is messages.
func taken(c *harness.Conn, storage string) (all, messages int64) {
	u := c.OK(`{"op":"server.info"}`).At("usage").At(storage)
	return u.Int("bytes"), u.Int("message_bytes")
}

// onDisk is the size of the log's files that hold something.
func onDisk(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".seg") {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) { // a segment may have just been given back
		t.Fatal(err)
	}
	return n
}

// R90: a storage keeps the bytes of a message once, however many queues have it; and for as long as one has it.
func TestBodiesAreKeptOnce(t *testing.T) {
	const queues, n, size = 20, 20, 500_000
	body := func(i int) string { return fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", size)) }
	for _, storage := range []string{harness.Storage(), "memory"} {
		t.Run(storage, func(t *testing.T) {
			s := harness.Start(t, "queue_defaults: {storage: "+storage+"}\n")
			c := s.Dial(t)
			for i := range queues {
				bind(c, fmt.Sprint("q", i), "", "big")
			}
			for i := range n {
				if l := c.OK(`{"op":"publish","topic":"big","body":%s}`, body(i)); l.Int("queues") != queues {
					t.Fatalf("R88: %s", l.Raw)
				}
			}
			all, messages := taken(c, storage)
			t.Logf("%d messages of %d bytes in %d queues: %s takes %d MB, %d of it messages", n, size, queues, storage, all/mb, messages/mb)
			// Shares of a message are rounded to a power of two, so that they may count half.
			if once := int64(n * size); messages < once/2 || messages > once*3/2 || all > 2*once+32*mb {
				t.Errorf("R90: %d bytes of messages, %d in all; one copy of each is %d", messages, all, once)
			}
			if disk := onDisk(t, s.Data); disk > 48*mb {
				t.Errorf("R90: the log has %d bytes", disk)
			}
			if l := c.OK(`{"op":"queue.info","queue":"q0"}`); l.Int("bytes") < n*size {
				t.Errorf("R90: for each queue they are its own: %s", l.Raw)
			}
			if storage == harness.Storage() {
				s.Restart()
				c = s.Dial(t)
			}
			for q := range queues { // the last queue needs them as the first did
				for i := 0; i < n && q%(queues-1) == 0; i++ {
					ms := c.OK(`{"op":"receive","queue":"q%d"}`, q).Each("messages")
					if len(ms) != 1 || ms[0].Body() != body(i) || ms[0].Text("topic") != "big" || ms[0].Int("seq") != int64(i+1) {
						t.Fatalf("R18: queue %d, message %d: %.100v", q, i, ms)
					}
				}
				c.OK(`{"op":"queue.purge","queue":"q%d"}`, q)
				if q == queues/2 && storage == harness.Storage() {
					s.Restart()
					c = s.Dial(t)
				}
			}
			harness.Eventually(t, "nothing is kept of what is settled everywhere", func() bool {
				_, messages := taken(c, storage)
				return messages < n*size/20
			})
		})
	}
}

// R85, R87: what was published to a topic outlives the process, and is delivered as it was sent.
func TestTopicOverRestart(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	queues := []string{"a", "b", "c", "d", "e"}
	for _, q := range queues {
		bind(c, q, "", "t.*", "u")
	}
	bodies := []string{`{ "n" : 1.0 , "n":2}`, `"\u00e4\ud83d\ude00"`, `1e400`, `null`, `[ ]`, `"` + strings.Repeat("long ", 20_000) + `"`}
	for i, body := range bodies {
		c.OK(`{"op":"publish","topic":"t.%d","headers":{"i":"%d"},"key":"k%d","body":%s}`, i, i, i, body)
	}
	c.OK(`{"op":"publish","topic":"u","messages":[{"body":"x","delay":"1h"},{"body":"eQ==","encoding":"base64","priority":9}]}`)
	for i, q := range queues { // each has settled something else
		for range 2 {
			c.OK(`{"op":"receive","queue":"%s"}`, q)
		}
		c.OK(`{"op":"ack","queue":"%s","seq":%d}`, q, i+1)
	}
	for range 2 {
		s.Restart()
		c = s.Dial(t)
	}
	for i, q := range queues {
		wantCounts(t, c, q, 8, map[string]int64{"ready": 6, "delayed": 1, "acked": 1})
		ms := c.OK(`{"op":"receive","queue":"%s","max":10}`, q).Each("messages")
		if len(ms) != 6 || ms[0].Text("topic") != "u" || ms[0].Text("encoding") != "base64" || ms[0].Body() != `"eQ=="` {
			t.Fatalf("R53: %s: %.300v", q, ms)
		}
		for _, m := range ms[1:] {
			k := m.Int("seq") - 1
			if k == int64(i) || m.Body() != bodies[k] || m.Text("topic") != fmt.Sprint("t.", k) || m.At("headers").Text("i") != fmt.Sprint(k) ||
				m.Text("key") != fmt.Sprint("k", k) || !m.Bool("redelivered") {
				t.Errorf("R89: %s: %.300s", q, m.Raw)
			}
		}
	}
	if l := c.OK(`{"op":"publish","topic":"t.x","body":"later"}`); l.Int("queues") != int64(len(queues)) {
		t.Errorf("R85: %s", l.Raw)
	}
}

// R87: a process that is killed leaves each publish to a topic in all queues or in none, those confirmed in all.
func TestTopicKilled(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	queues := []string{"a", "b", "c", "d", "e", "f"}
	for _, q := range queues {
		bind(c, q, "", "t")
	}
	confirmed, next := 0, 0
	for range 5 {
		c := s.Dial(t)
		var lines strings.Builder
		first := next
		for ; next < first+3000; next++ {
			fmt.Fprintf(&lines, `{"op":"publish","id":%d,"topic":"t","body":"%d %s"}`+"\n", next, next, strings.Repeat("x", next%300))
		}
		go c.Write([]byte(lines.String()))
		for range 500 { // and then, in the middle of it
			l := c.Reply()
			if l.Int("queues") != int64(len(queues)) {
				t.Fatal(l.Raw)
			}
			confirmed = max(confirmed, int(l.Int("id")))
		}
		s.Restart()
		all := s.Dial(t)
		counted := counts(all, queues[0])
		for _, q := range queues {
			if got := counts(all, q); got.Int("published") != counted.Int("published") {
				t.Fatalf("R87: %s: %s, and %s: %s", queues[0], counted.Raw, q, got.Raw)
			}
		}
	}
	c = s.Dial(t)
	want := rest(c, queues[0])
	if !strings.Contains(" "+want, fmt.Sprintf(` "%d `, confirmed)) {
		t.Errorf("R23: %d was confirmed and is not there", confirmed)
	}
	for _, q := range queues[1:] {
		if got := rest(c, q); got != want {
			t.Fatalf("R87: %s has %d bytes, not the %d of %s", q, len(got), len(want), queues[0])
		}
	}
}

// R87: however many publish at the same time, to topics and to the queues themselves, and however short of room one queue
// is: every queue has what was accepted, and nothing else.
func TestTopicsAtOnce(t *testing.T) {
	s := harness.Start(t, "")
	c := s.Dial(t)
	queues := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for i, q := range queues {
		bind(c, q, `"storage":"`+[]string{harness.Storage(), "memory"}[i%2]+`"`, "t.*")
	}
	bind(c, "small", `"max_messages":20`, "t.even")
	const publishers, n = 6, 400
	accepted := make([]int64, publishers)
	var publishing, consuming sync.WaitGroup
	var mu sync.Mutex // guards direct
	direct := int64(0)
	for p := range publishers {
		c := s.Dial(t)
		publishing.Go(func() {
			var lines strings.Builder
			for i := range n {
				topic := []string{"even", "odd"}[(p+i)%2]
				fmt.Fprintf(&lines, `{"op":"publish","id":"t","topic":"t.%s","messages":[{"body":"%d.%d"},{"body":"%d.%d b"}]}`+"\n", topic, p, i, p, i)
				fmt.Fprintf(&lines, `{"op":"publish","id":"d","queue":"small","body":"direct"}`+"\n")
			}
			go c.Write([]byte(lines.String()))
			for range 2 * n {
				switch l := c.Reply(); {
				case l.Text("id") == "t" && l.Bool("ok"):
					accepted[p]++
				case l.Text("id") == "d" && l.Bool("ok"):
					mu.Lock()
					direct++
					mu.Unlock()
				case l.Code() != "queue_full":
					t.Errorf("R57: %s", l.Raw)
				}
			}
		})
	}
	got, enough := int64(0), make(chan struct{})
	consumer := s.Dial(t)
	consuming.Go(func() {
		for {
			got += int64(len(consumer.OK(`{"op":"receive","queue":"small","max":7,"ack":"auto","wait":"5ms"}`).Each("messages")))
			select {
			case <-enough:
				return
			default:
			}
		}
	})
	publishing.Wait()
	close(enough)
	consuming.Wait()
	total := int64(0)
	for _, k := range accepted {
		total += 2 * k
	}
	small := counts(c, "small")
	t.Logf("%d messages in each queue, %d direct ones; the small queue: %s", total, direct, small.Raw)
	if full := small.Int("published"); full < direct || total < n || got+small.Int("ready")+small.Int("leased") < full {
		t.Errorf("R59: %s", small.Raw)
	}
	want := ""
	for _, q := range queues {
		if published := counts(c, q).Int("published"); published != total {
			t.Errorf("R87: %s has had %d messages; %d were accepted", q, published, total)
		}
		have := strings.Split(rest(c, q), `" "`)
		slices.Sort(have) // of different connections, they may stand in any order
		if all := strings.Join(have, " "); want == "" {
			want = strings.ReplaceAll(all, `"`, "")
		} else if strings.ReplaceAll(all, `"`, "") != want {
			t.Errorf("R87: %s has others than %s", q, queues[0])
		}
	}
}

// R90: what several queues share is moved with those that still have it when the log is tidied up.
func TestSharedBodiesAreMoved(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes 150 MB")
	}
	s := harness.Start(t, "")
	c := s.Dial(t)
	queues := []string{"a", "b", "c", "d"}
	for _, q := range queues {
		bind(c, q, "", "t")
	}
	const n, keep = 1500, 100
	filling := strings.Repeat("x", 100_000)
	for i := range n {
		c.Sendf(`{"op":"publish","quiet":true,"topic":"t","body":"%d %s"}`, i, filling)
		if i%100 == 99 { // all that is not kept is settled everywhere
			for _, q := range queues {
				var seqs []string
				for k := i - 98; k <= i+1; k++ {
					if (k-1)%keep != 0 {
						seqs = append(seqs, fmt.Sprint(k))
					}
				}
				c.OK(`{"op":"ping"}`)
				harness.Eventually(t, "all are stored", func() bool { return counts(c, q).Int("published") == int64(i+1) })
				c.OK(`{"op":"ack","queue":"%s","seq":[%s]}`, q, strings.Join(seqs, ","))
			}
		}
	}
	harness.Eventually(t, "the log has shrunk", func() bool { all, _ := taken(c, harness.Storage()); return all < 100*mb })
	for range 2 {
		for _, q := range queues {
			for i := range n / keep {
				m := receive(t, c, q)
				if m.Body() != fmt.Sprintf(`"%d %s"`, i*keep, filling) || m.Int("seq") != int64(i*keep+1) || m.Text("topic") != "t" {
					t.Fatalf("R18: %s: %.200s", q, m.Raw)
				}
			}
		}
		s.Restart()
		c = s.Dial(t)
	}
}
