package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A fake is a source whose readiness can be changed.
type fake struct {
	stats    Stats
	notReady atomic.Pointer[error]
	backup   func(ctx context.Context, w io.Writer) error
	block    chan struct{} // where not nil, Ready waits for it
	asked    chan struct{}
}

func (f *fake) Stats() Stats { return f.stats }

func (f *fake) Backup(ctx context.Context, w io.Writer) error { return f.backup(ctx, w) }

func (f *fake) Ready() error {
	if f.block != nil {
		f.asked <- struct{}{}
		<-f.block
	}
	if err := f.notReady.Load(); err != nil {
		return *err
	}
	return nil
}

func someStats() Stats {
	return Stats{
		Version: "1.2.3", Connections: 2, ConnectionsTotal: 5,
		Requests: map[string]uint64{"publish": 7, "queue.info": 1}, Errors: map[string]uint64{"queue_full": 1},
		Queues: []QueueStats{
			{Name: "a", Storage: "file", Ready: 1, Leased: 2, Delayed: 3, Published: 16, Delivered: 9, Returned: 8,
				Acked: 1, Expired: 2, Dead: 3, Dropped: 4, Cancelled: 5, Purged: 6, Redriven: 7,
				Bytes: 600, OldestAgeSeconds: 1.5, Consumers: 4},
			{Name: "b", Storage: "memory", Ready: 10},
		},
		JournalBytes: 100, JournalLiveBytes: 50, MemoryUsed: 10, MemoryLimit: 20, MySQL: new(bool),
	}
}

// serve starts a server; its address and what stops it and looks at what it returned.
func serve(t *testing.T, source Source) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(source, nil, nil, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// ask sends a request as it is written and returns the status and the body.
func ask(t *testing.T, address, method, path, host string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", method, path, host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestPages(t *testing.T) {
	source := &fake{stats: someStats()}
	_, address := serve(t, source)
	for _, test := range []struct {
		method, path, host string
		status             int
		body               string
	}{
		{"GET", "/livez", address, 200, "ok\n"},
		{"HEAD", "/livez", address, 200, ""},
		{"GET", "/readyz", address, 200, "ok\n"},
		{"GET", "/", address, 404, pageList},
		{"GET", "/debug/pprof/", address, 404, pageList},
		{"POST", "/livez", address, 405, "only GET and HEAD\n"},
		{"DELETE", "/metrics", address, 405, "only GET and HEAD\n"},
		{"GET", "/livez", "localhost", 200, "ok\n"},
		{"GET", "/livez", "[::1]:4580", 200, "ok\n"},
		{"GET", "/metrics", "evil.example:4580", 421, misdirectedReply},
		{"GET", "/livez", "127.0.0.1.evil.example", 421, misdirectedReply},
	} {
		resp, body := ask(t, address, test.method, test.path, test.host)
		if resp.StatusCode != test.status || body != test.body {
			t.Errorf("%s %s as %s: %d %q", test.method, test.path, test.host, resp.StatusCode, body)
		}
	}
}

func TestReadiness(t *testing.T) {
	source := &fake{}
	_, address := serve(t, source)
	reason := errors.New("recovering 3 of 16 shards")
	source.notReady.Store(&reason)
	if resp, body := ask(t, address, "GET", "/readyz", address); resp.StatusCode != 503 || body != "recovering 3 of 16 shards\n" {
		t.Errorf("not ready: %d %q", resp.StatusCode, body)
	}
	if resp, _ := ask(t, address, "GET", "/livez", address); resp.StatusCode != 200 {
		t.Errorf("a server that is not ready is alive all the same: %d", resp.StatusCode)
	}
	source.notReady.Store(nil)
	if resp, _ := ask(t, address, "GET", "/readyz", address); resp.StatusCode != 200 {
		t.Errorf("ready again: %d", resp.StatusCode)
	}
}

func TestMetricsPage(t *testing.T) {
	_, address := serve(t, &fake{stats: someStats()})
	resp, body := ask(t, address, "GET", "/metrics", address)
	if resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	for _, line := range []string{
		`gmq_build_info{version="1.2.3"} 1`,
		`gmq_ready 1`,
		`gmq_connections 2`,
		`gmq_connections_accepted_total 5`,
		`gmq_queues 2`,
		`gmq_queues_unlisted 0`,
		`gmq_messages{state="ready"} 11`,
		`gmq_requests_total{op="publish"} 7`,
		`gmq_errors_total{code="queue_full"} 1`,
		`gmq_queue_info{queue="b",storage="memory"} 1`,
		`gmq_queue_messages{queue="a",state="ready"} 1`,
		`gmq_queue_messages{queue="a",state="leased"} 2`,
		`gmq_queue_messages{queue="a",state="delayed"} 3`,
		`gmq_queue_published_total{queue="a"} 16`,
		`gmq_queue_delivered_total{queue="a"} 9`,
		`gmq_queue_returned_total{queue="a"} 8`,
		`gmq_queue_acked_total{queue="a"} 1`,
		`gmq_queue_expired_total{queue="a"} 2`,
		`gmq_queue_dead_total{queue="a"} 3`,
		`gmq_queue_dropped_total{queue="a"} 4`,
		`gmq_queue_cancelled_total{queue="a"} 5`,
		`gmq_queue_purged_total{queue="a"} 6`,
		`gmq_queue_redriven_total{queue="a"} 7`,
		`gmq_queue_bytes{queue="a"} 600`,
		`gmq_queue_consumers{queue="a"} 4`,
		`gmq_queue_oldest_age_seconds{queue="a"} 1.5`,
		`gmq_journal_bytes 100`,
		`gmq_journal_live_bytes 50`,
		`gmq_memory_used_bytes 10`,
		`gmq_memory_limit_bytes 20`,
		`gmq_mysql_up 0`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	for _, name := range []string{"go_goroutines", "process_start_time_seconds"} {
		if !strings.Contains(body, "\n"+name+" ") {
			t.Errorf("missing: %s", name)
		}
	}
}

// In a cluster a node tells of the queues that it leads, and of nobody else's.
func TestMetricsOfACluster(t *testing.T) {
	stats := someStats()
	stats.Queues[1].Leader = "n2"
	stats.Groups = &GroupStats{Leading: 6, Following: 9, Leaderless: 1, Away: map[string]int{"n2": 0, "n3": 6}}
	_, address := serve(t, &fake{stats: stats})
	_, body := ask(t, address, "GET", "/metrics", "localhost")
	for _, line := range []string{
		`gmq_queue_messages{queue="a",state="ready"} 1`, `gmq_messages{state="ready"} 1`, `gmq_queues 1`,
		`gmq_cluster_groups_leading 6`, `gmq_cluster_groups_following 9`, `gmq_cluster_groups_leaderless 1`, `gmq_cluster_groups_away{node="n2"} 0`, `gmq_cluster_groups_away{node="n3"} 6`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("there is no %s", line)
		}
	}
	if strings.Contains(body, `queue="b"`) {
		t.Error("the queue of another node is told")
	}
	if len(stats.Queues) != 2 || stats.Queues[1].Name != "b" {
		t.Error("the source's queues were changed")
	}
	_, address = serve(t, &fake{stats: someStats()})
	if _, body := ask(t, address, "GET", "/metrics", "localhost"); strings.Contains(body, "gmq_cluster") {
		t.Error("a server alone has metrics of a cluster")
	}
}

func TestMetricsLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(collector{&fake{stats: someStats()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestQueuesBeyondTheCap(t *testing.T) {
	var s Stats
	for i := maxQueueSeries + 5; i > 0; i-- {
		s.Queues = append(s.Queues, QueueStats{Name: fmt.Sprintf("q%05d", i), Ready: 1})
	}
	c := collector{&fake{stats: s}}
	if n := testutil.CollectAndCount(c, "gmq_queue_bytes"); n != maxQueueSeries {
		t.Errorf("%d queues have series, want %d", n, maxQueueSeries)
	}
	want := fmt.Sprintf("# HELP gmq_messages Messages in all queues, by state.\n# TYPE gmq_messages gauge\n"+
		"gmq_messages{state=\"delayed\"} 0\ngmq_messages{state=\"leased\"} 0\ngmq_messages{state=\"ready\"} %d\n"+
		"# HELP gmq_queues_unlisted Queues without series of their own, because there are too many.\n# TYPE gmq_queues_unlisted gauge\n"+
		"gmq_queues_unlisted 5\n", maxQueueSeries+5)
	if err := testutil.CollectAndCompare(c, bytes.NewBufferString(want), "gmq_messages", "gmq_queues_unlisted"); err != nil {
		t.Error(err)
	}
	if first := listed(s.Queues)[0].Name; first != "q00001" || s.Queues[0].Name != fmt.Sprintf("q%05d", maxQueueSeries+5) {
		t.Errorf("the first listed is %s; the source's own order begins with %s", first, s.Queues[0].Name)
	}
}

// A request that never ends must not hold up the end of the process.
func TestShutdownCutsOffAtItsDeadline(t *testing.T) {
	source := &fake{block: make(chan struct{}), asked: make(chan struct{})}
	s, address := serve(t, source)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-source.asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection was answered")
	}
	close(source.block)
}
