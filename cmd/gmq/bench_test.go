package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gmq/gmq/internal/loadgen"
)

func benchReport(t *testing.T, out string) *loadgen.Report {
	t.Helper()
	r, err := loadgen.ReadReport([]byte(out))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

func TestBenchLocal(t *testing.T) {
	t.Parallel()
	for _, storage := range []string{"memory", "file"} {
		dir := t.TempDir()
		args := []string{"bench", "--local", storage, "--dir", dir, "--messages", "3000", "--warmup", "50ms", "--publishers", "2", "-o", "json"}
		got := gmqRun(t, nil, "", args...)
		if got.code != 0 || got.err != "" {
			t.Fatalf("%d, %s", got.code, got.err)
		}
		r := benchReport(t, got.out)
		a := &r.Accounting
		if !r.OK || r.Confirm.Messages != 3000 || r.EndToEnd.Messages != 3000 || a.Confirmed < 3000 || a.Delivered != a.Confirmed || a.Lost+a.Left != 0 || !a.Judged {
			t.Errorf("%s", got.out)
		}
		if r.Settings.Publishers != 2 || r.Server.Local != storage || r.Server.Version != "v9.8.7" || r.Generator.Version != "v9.8.7" || r.Generator.Cores < 1 || r.Published.PerSecond <= 0 {
			t.Errorf("%s", got.out)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("there is still %v, %v", left, err)
		}
	}
}

func TestBenchOnServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	text := s.must("", "bench", "--messages", "1000", "--warmup", "0s", "--rate", "20000", "--topics", "2", "--queues", "4", "--subscribers", "1", "--storage", "memory")
	for _, part := range []string{"1 publisher, 1 consumer, 1 subscriber, 2 topics, 4 queues, 100 bytes, 20000 messages a second", "published     1,000", "delivered     3,000", "end to end", "late: ", "checked: 1,000 confirmed, 3,000 delivered, 0 lost"} {
		contains(t, "bench", text, part)
	}
	if list := s.must("", "queue", "ls", "-o", "json"); strings.Contains(list, "bench-") {
		t.Errorf("there are still queues: %s", list)
	}
	// What is in a queue is somebody's.
	s.must("", "pub", "mine", "hello")
	r := s.run("", "bench", "--queue", "mine", "--messages", "10", "--warmup", "0s")
	if r.code != 1 {
		t.Errorf("exit code %d", r.code)
	}
	contains(t, "bench", r.err, `queue "mine" holds 1 messages`)
	contains(t, "bench", s.must("", "queue", "info", "mine"), "1")
	r = s.run("", "bench", "--stored", "quorum", "--messages", "10", "--warmup", "0s")
	if r.code != 1 {
		t.Errorf("exit code %d", r.code)
	}
	contains(t, "bench", r.err, "not_stored")
}

// A thief is a server that confirms everything and does not deliver one message: what stands between bench and a real
// server.
func thief(t *testing.T, server string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var stolen atomic.Int64
	pass := func(to, from net.Conn) {
		defer to.Close()
		lines := bufio.NewReader(from)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			if bytes.HasPrefix(line, []byte(`{"op":"message"`)) && stolen.Add(1) == 500 {
				continue
			}
			if _, err := to.Write(line); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			ours, err := l.Accept()
			if err != nil {
				return
			}
			theirs, err := net.Dial("tcp", server)
			if err != nil {
				ours.Close()
				return
			}
			go pass(ours, theirs)
			go func() {
				defer theirs.Close()
				io.Copy(theirs, ours)
			}()
		}
	}()
	return l.Addr().String()
}

// The message that was stolen is leased by bench's own consumer, so it is not lost: it waits in the queue. With ack auto
// the server takes it for settled.
func TestBenchFindsLoss(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for ack, text := range map[string]string{
		"auto":    "1 messages were confirmed and are lost",
		"receipt": "1 messages are in the queues, and nothing was delivered for 4s",
	} {
		r := s.run("", "bench", "--server", thief(t, s.addr), "--timeout", "4s", "--messages", "1000", "--warmup", "0s", "--ack", ack, "-o", "json")
		if r.code != 1 || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit code %d, %s", ack, r.code, r.err)
		}
		contains(t, ack, r.err, text)
		report := benchReport(t, r.out)
		if report.OK || (report.Accounting.Lost == 1) != (ack == "auto") || report.Accounting.Confirmed != 1000 || report.Accounting.Delivered != 999 {
			t.Errorf("%s: %s", ack, r.out)
		}
	}
	if list := s.must("", "queue", "ls", "-o", "json"); strings.Contains(list, "bench-") {
		t.Errorf("there are still queues: %s", list)
	}
}

// ^C ends the load early: the report is of what there was, and nothing stays behind.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	s, dir := startServer(t), t.TempDir()
	for _, where := range [][]string{{"--server", s.addr}, {"--local", "memory", "--dir", dir}} {
		cmd := command(t, append([]string{"bench", "--warmup", "0s", "--duration", "1h", "--consumers", "0", "--rate", "1000", "-o", "json"}, where...)...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if where[0] == "--server" {
			for !strings.Contains(s.must("", "queue", "ls", "-o", "json"), `"ready":1`) {
			}
		} else {
			for entries, _ := os.ReadDir(dir); len(entries) == 0; entries, _ = os.ReadDir(dir) {
			}
		}
		cmd.Process.Signal(syscall.SIGINT)
		err := cmd.Wait()
		if where[0] == "--server" {
			if r := benchReport(t, out.String()); err != nil || !r.OK || r.Accounting.Confirmed == 0 || r.Seconds > 3000 {
				t.Errorf("%v, %s, %s", err, errs.String(), out.String())
			}
		}
		if list := s.must("", "queue", "ls", "-o", "json"); strings.Contains(list, "bench-") {
			t.Errorf("there are still queues: %s", list)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("there is still %v, %v", left, err)
		}
	}
}

func TestBenchCompare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var files []string
	for i, r := range []loadgen.Report{
		{Form: 1, OK: true, Settings: loadgen.Settings{Window: 10}, Published: loadgen.Flow{PerSecond: 1000}},
		{Form: 1, OK: true, Settings: loadgen.Settings{Window: 20}, Published: loadgen.Flow{PerSecond: 2500}},
	} {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, filepath.Join(dir, string(rune('a'+i))+".json"))
		if err := os.WriteFile(files[i], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := gmqRun(t, nil, "", "bench", "--compare", files[0], files[1])
	contains(t, "compare", r.out, "settings.window: 10 and 20")
	contains(t, "compare", strings.Join(strings.Fields(r.out), " "), "published/s 1,000 2,500 2.50")
	r = gmqRun(t, nil, "", "bench", "--compare", files[0], files[1], "-o", "json")
	contains(t, "compare", r.out, `{"name":"published/s","a":1000,"b":2500,"ratio":2.5}`)
}

// TestBenchSecured: bench gets into a server that wants TLS and a login, with all of its connections, and is refused as other
// commands are.
func TestBenchSecured(t *testing.T) {
	t.Parallel()
	certs, _ := devCerts(t)
	in := func(name string) string { return filepath.Join(certs, name) }
	config := writeFile(t, "auth: {required: true}\ntls: {cert: "+in("server.pem")+", key: "+in("server-key.pem")+", required: true}\n", 0o600)
	data := filepath.Join(t.TempDir(), "data")
	s := startServerWith(t, data, "127.0.0.1:0", nil, "--config", config)
	text, err := os.ReadFile(filepath.Join(data, "admin-password"))
	if err != nil {
		t.Fatal(err)
	}
	password := strings.TrimSpace(string(text))
	as := func(who ...string) []string { return append(s.env(), who...) }
	load := []string{"bench", "--messages", "500", "--warmup", "0s", "--consumers", "2", "--publishers", "2", "--storage", "memory", "--timeout", "30s", "-o", "json"}
	known := append([]string{"--ca", in("ca.pem")}, load...)
	added := gmqRun(t, as("GMQ_USER=admin", "GMQ_PASSWORD="+password), "", "--ca", in("ca.pem"), "token", "add", "load", "--for", "admin")
	equal(t, "token add: "+added.err, added.code, 0)
	token := strings.TrimSpace(added.out)
	for name, test := range map[string]struct {
		env  []string
		args []string
		code int
		err  string
	}{
		"by password":    {as("GMQ_USER=admin", "GMQ_PASSWORD="+password), known, 0, ""},
		"by token":       {as("GMQ_TOKEN=" + token), known, 0, ""},
		"nobody":         {as(), known, exitNotAllowed, "unauthenticated"},
		"wrong password": {as("GMQ_USER=admin", "GMQ_PASSWORD=x"), known, exitNotAllowed, "unauthenticated"},
		"no authority":   {as("GMQ_TOKEN=" + token), append([]string{"--tls"}, load...), exitConnect, "unknown authority"},
	} {
		r := gmqRun(t, test.env, "", test.args...)
		equal(t, name+": "+r.err, r.code, test.code)
		contains(t, name, r.err, test.err)
		if test.code == 0 {
			if report := benchReport(t, r.out); !report.OK || report.Accounting.Confirmed != 500 {
				t.Errorf("%s: %+v", name, report)
			}
		}
		if all := r.out + r.err; strings.Contains(all, token) || strings.Contains(all, password) {
			t.Errorf("%s tells a secret: %s", name, all)
		}
	}
}
