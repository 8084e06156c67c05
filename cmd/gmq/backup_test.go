package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
)

// A publishing is what clients that publish and ack all the time have been told.
type publishing struct {
	mu        sync.Mutex
	confirmed map[string]int  // by queue: messages 1 to that number
	acked     map[string]bool // bodies of the queue work
	more      *sync.Cond
	running   sync.WaitGroup
	end       context.CancelFunc
}

type aNote struct {
	N   int
	Pad string
}

const padding = 3000

// publishAllTheTime starts clients that do not stop until the end.
func publishAllTheTime(t *testing.T, addr string) *publishing {
	ctx, cancel := context.WithCancel(t.Context())
	p := &publishing{confirmed: map[string]int{}, acked: map[string]bool{}, end: cancel}
	p.more = sync.NewCond(&p.mu)
	c, err := gmq.Dial(ctx, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(); c.Close() })
	for _, q := range []string{"copy1", "copy2"} {
		if err := errors.Join(c.CreateQueue(ctx, q, gmq.Settings{}), c.Queue(q).Bind(ctx, "news.>")); err != nil {
			t.Fatal(err)
		}
	}
	for _, queue := range []string{"a", "b", "c", "work", "news"} {
		p.running.Go(func() { p.publish(ctx, t, addr, queue) })
	}
	p.running.Go(func() { p.work(ctx, t, c) })
	return p
}

// publish sends batches over a connection of its own; those to news go to a topic.
func (p *publishing) publish(ctx context.Context, t *testing.T, addr, queue string) {
	c, err := gmq.Dial(ctx, addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	for n := 0; ; {
		var batch []gmq.Msg
		for range 10 {
			n++
			batch = append(batch, gmq.Msg{Body: aNote{n, strings.Repeat("x", padding)}})
		}
		if queue == "news" {
			_, err = c.Topic("news.all").SendBatch(ctx, batch)
		} else {
			_, err = c.Queue(queue).SendBatch(ctx, batch)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		p.mu.Lock()
		p.confirmed[queue] = n
		p.more.Broadcast()
		p.mu.Unlock()
	}
}

func (p *publishing) work(ctx context.Context, t *testing.T, c *gmq.Client) {
	for {
		msgs, err := c.Queue("work").Receive(ctx, 50, time.Minute)
		if ctx.Err() != nil {
			return
		}
		for _, m := range msgs {
			if err == nil {
				err = m.Ack(ctx)
			}
			if err == nil {
				p.mu.Lock()
				p.acked[string(m.Body)] = true
				p.mu.Unlock()
			}
		}
		if err != nil && ctx.Err() == nil {
			t.Error(err)
			return
		}
	}
}

// until waits for so many messages in each queue, and says what was confirmed.
func (p *publishing) until(n int) (confirmed map[string]int, acked map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		all := len(p.confirmed) == 5
		for _, have := range p.confirmed {
			all = all && have >= n
		}
		if all {
			break
		}
		p.more.Wait()
	}
	confirmed, acked = map[string]int{}, map[string]bool{}
	for q, n := range p.confirmed {
		confirmed[q] = n
	}
	for body := range p.acked {
		acked[body] = true
	}
	return confirmed, acked
}

func (p *publishing) stop() { p.end(); p.running.Wait() }

// held are the messages in a queue.
func held(t *testing.T, c *gmq.Client, queue string) map[int]string {
	t.Helper()
	all := map[int]string{}
	for m, err := range c.Queue(queue).Peek(t.Context(), "", 0, 1<<30) {
		var n aNote
		if err == nil {
			err = m.Decode(&n)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(n.Pad) != padding || all[n.N] != "" {
			t.Fatalf("queue %s: message %d is not what was published, or is there twice", queue, n.N)
		}
		all[n.N] = string(m.Body)
	}
	return all
}

// A backup that is made under full load has all that was confirmed before it began, and a server goes on from it.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--admin", "127.0.0.1:0")
	p := publishAllTheTime(t, s.addr)
	file := filepath.Join(t.TempDir(), "backup.tar")
	confirmed, acked := p.until(2500)
	out := s.must("", "backup", file, "--admin", s.admin)
	contains(t, "backup", out, " MiB: all that was confirmed before 20")
	for _, what := range []string{"check", "dump", "replay"} {
		r := s.run("", "journal", what, "--data", s.dir)
		if r.code != 0 || strings.Contains(r.err, "damaged") {
			t.Errorf("%s while everything is going on: %d, %s", what, r.code, r.err)
		}
	}
	after, ackedAfter := p.until(0)
	for q, n := range confirmed {
		if after[q] <= n {
			t.Errorf("nothing was published to %s while the backup was made", q)
		}
	}
	p.stop()
	s.stop()
	contains(t, "log", s.log.String(), `"msg":"a backup was made"`)

	dir := filepath.Join(t.TempDir(), "restored")
	contains(t, "restore", s.must("", "restore", dir, file), dir+": ", " records, with all that was confirmed before 20")
	contains(t, "check", s.must("", "journal", "check", "--data", dir), "ok: ")
	again := startServerWith(t, dir, "127.0.0.1:0", nil)
	c, err := gmq.Dial(t.Context(), again.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for queue, of := range map[string]string{"a": "a", "b": "b", "c": "c", "copy1": "news", "copy2": "news"} {
		have := held(t, c, queue)
		for n := 1; n <= max(confirmed[of], len(have)); n++ {
			if have[n] == "" {
				t.Fatalf("queue %s: message %d is not there; %d are, and %d were confirmed before the backup", queue, n, len(have), confirmed[of])
			}
		}
	}
	work := held(t, c, "work")
	for _, body := range work {
		if acked[body] {
			t.Fatalf("a message that was acked before the backup is there: %.40s", body)
		}
	}
	for n := 1; n <= confirmed["work"]; n++ {
		body := fmt.Sprintf(`{"N":%d,"Pad":"%s"}`, n, strings.Repeat("x", padding))
		if work[n] == "" && !ackedAfter[body] {
			t.Fatalf("message %d was confirmed before the backup and acked never, and is not there", n)
		}
	}
	t.Logf("%s%d messages of 5 queues, %d of work", out, len(held(t, c, "a")), len(work))
}

func TestBackupRefuses(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--admin", "127.0.0.1:0")
	s.must("one\n", "pub", "q")
	dir := t.TempDir()
	file := filepath.Join(dir, "b.tar")
	s.must("", "backup", file, "--admin", s.admin)
	r := s.run("", "backup", file, "--admin", s.admin)
	equal(t, "code where the file is there", r.code, 1)
	contains(t, "stderr", r.err, "is there already")
	nobody := closedPort(t)
	r = s.run("", "backup", filepath.Join(dir, "c.tar"), "--admin", nobody)
	equal(t, "code where nobody listens", r.code, 3)
	contains(t, "stderr", r.err, "cannot connect to "+nobody, "--admin says another one")
	equal(t, "code of a server that is none", s.run("", "backup", filepath.Join(dir, "c.tar"), "--admin", s.addr).code, 3)
	if left, err := filepath.Glob(filepath.Join(dir, "c.tar*")); err != nil || len(left) > 0 {
		t.Errorf("a backup that failed left %v, %v", left, err)
	}
	resp, err := http.Get("http://" + s.admin + "/backup") // as a page in a browser could
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	equal(t, "status without the header", resp.StatusCode, 400)

	// To standard output, and from standard input.
	piped := s.run("", "backup", "-", "--admin", s.admin)
	equal(t, "code", piped.code, 0)
	into := filepath.Join(dir, "restored")
	r = gmqRun(t, nil, piped.out, "restore", into, "-", "-o", "json")
	contains(t, "restore", r.out, `"directory":"`+into+`"`, `"version":"v9.8.7"`)
	r = gmqRun(t, nil, piped.out, "restore", into, "-")
	equal(t, "code where the directory is not empty", r.code, 1)
	contains(t, "stderr", r.err, into+" is not empty")
	r = gmqRun(t, nil, piped.out[:len(piped.out)/2], "restore", filepath.Join(dir, "half"), "-")
	equal(t, "code of half a backup", r.code, 1)
	if _, err := os.Stat(filepath.Join(dir, "half", "wal")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a backup left something: %v", err)
	}

	// The archive alone, unpacked by anything, is a data directory too.
	unpacked := filepath.Join(dir, "unpacked")
	unpack(t, piped.out, unpacked)
	contains(t, "check", gmqRun(t, nil, "", "journal", "check", "--data", unpacked).out, "ok: ")
	again := startServerWith(t, unpacked, "127.0.0.1:0", nil)
	equal(t, "what was published", again.must("", "sub", "q"), "one\n")
}

func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	in := tar.NewReader(strings.NewReader(archive))
	for {
		h, err := in.Next()
		if err == io.EOF {
			return
		}
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		data, rerr := io.ReadAll(in)
		if err := errors.Join(err, rerr, os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// A backup over an admin address that speaks HTTPS, and what is not sent in clear.
func TestBackupOverTLS(t *testing.T) {
	t.Parallel()
	dir, settings := devCerts(t)
	file := writeFile(t, settings+"\nauth: {required: true}\nadmin: 0.0.0.0:0\nlisten: 127.0.0.1:0\n", 0o600)
	data := filepath.Join(t.TempDir(), "data")
	s := startServerWith(t, data, "127.0.0.1:0", []string{"GMQ_ADMIN_PASSWORD=adminpw"}, "--admin", "0.0.0.0:0", "--config", file)
	_, port, err := net.SplitHostPort(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	admin := net.JoinHostPort("localhost", port)
	who := []string{"GMQ_USER=admin", "GMQ_PASSWORD=adminpw"}
	into := func() string { return filepath.Join(t.TempDir(), "b.tar") }
	r := gmqRun(t, who, "", "backup", into(), "--admin", admin, "--ca", dir+"/ca.pem")
	equal(t, "over HTTPS: "+r.err, r.code, 0)
	r = gmqRun(t, who, "", "backup", into(), "--admin", admin)
	equal(t, "over HTTP", r.code, exitConnect)
	contains(t, "over HTTP", r.err, "speaks HTTPS", "--ca FILE")
	r = gmqRun(t, who, "", "backup", into(), "--admin", admin, "--tls")
	equal(t, "of an unknown authority", r.code, exitConnect)
	contains(t, "of an unknown authority", r.err, "--ca")
	for _, env := range [][]string{who, {"GMQ_TOKEN=gmq_canary"}} { // nothing is sent, so nobody has to be there
		r = gmqRun(t, env, "", "backup", into(), "--admin", "192.0.2.1:4580", "--timeout", "1s")
		equal(t, "in clear", r.code, exitNotAllowed)
		contains(t, "in clear", r.err, "is not sent unencrypted to another machine")
	}
}
