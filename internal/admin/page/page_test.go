package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gmq/gmq/internal/admin"
	"github.com/gmq/gmq/wire"
)

// A fake is what a page stands in front of.
type fake struct {
	stats     atomic.Pointer[admin.Stats]
	looks     atomic.Int32
	required  bool
	sees      func(name string) bool // nil: all
	publishes string                 // a queue on which he has this right and no other
	reply     func(line string) string
	asked     []string
	ended     atomic.Bool
}

func (f *fake) Stats() admin.Stats               { f.looks.Add(1); return *f.stats.Load() }
func (f *fake) Ready() error                     { return errors.New("draining") }
func (f *fake) Consumers(string, int) []Consumer { return []Consumer{{Client: "shop at x", Credit: 3}} }
func (f *fake) Required() bool                   { return f.required }
func (f *fake) Logout(string)                    {}
func (f *fake) Name() string                     { return "ann" }
func (f *fake) Alive() bool                      { return !f.ended.Load() }
func (f *fake) Generation() uint64               { return 1 }
func (f *fake) Leave()                           {}
func (f *fake) May(verbs wire.Verb, name string) bool {
	if f.publishes != "" && name == f.publishes {
		return verbs&wire.VerbPublish != 0
	}
	return f.sees == nil || name != "" && f.sees(name)
}
func (f *fake) Bindings(topic string) []Binding {
	return []Binding{{"a.*", "q1"}, {"b.>", "q2"}, {"topic " + topic, "q2"}}
}

func (f *fake) Ask(_ context.Context, line []byte) []byte {
	f.asked = append(f.asked, string(line))
	if f.reply == nil {
		return []byte(`{"ok":true}`)
	}
	return []byte(f.reply(string(line)))
}

func (f *fake) Enter(r *http.Request) (Visitor, *wire.Error) {
	if f.required && r.Header.Get("Authorization") == "" {
		if c, err := r.Cookie(CookieName(r)); err != nil || c.Value != "a text" {
			return nil, wire.Errorf(wire.CodeUnauthenticated, "who is it?")
		}
	}
	return f, nil
}

func (f *fake) Login(_ *http.Request, user, password, token string) (string, *wire.Error) {
	if password != "right" && token != "right" {
		return "", wire.Errorf(wire.CodeUnauthenticated, "wrong")
	}
	return "a text", nil
}

func someQueues(n int) *admin.Stats {
	s := &admin.Stats{Version: "1", Node: "n1", Requests: map[string]uint64{"publish": 7}, Errors: map[string]uint64{"queue_full": 2}, Audit: "log"}
	for i := range n {
		s.Queues = append(s.Queues, admin.QueueStats{Name: fmt.Sprintf("q%d", i+1), Storage: "file", Ready: uint64(10 * (i + 1)), Consumers: 1, OldestAgeSeconds: float64(n - i)})
	}
	return s
}

func serve(f *fake) *Page {
	if f.stats.Load() == nil {
		f.stats.Store(someQueues(3))
	}
	return New(f, f, func() int { return 1000 })
}

// call asks a page for something as a script does; headers are pairs.
func call(p *Page, method, path, body string, headers ...string) (*http.Response, string) {
	r := httptest.NewRequest(method, "http://127.0.0.1:4580"+path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	b, _ := io.ReadAll(w.Result().Body)
	return w.Result(), string(b)
}

// What another web page can make a browser do is refused, before anything is looked at.
func TestOtherOrigins(t *testing.T) {
	const kind, plain = "application/json", "text/plain"
	for _, test := range []struct {
		what, method string
		required     bool
		headers      []string
		status       int
	}{
		{"a script", "POST", false, []string{"Content-Type", kind}, 200},
		{"the page itself", "POST", false, []string{"Content-Type", kind + "; charset=utf-8", "Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:4580"}, 200},
		{"somebody who typed the address", "GET", false, []string{"Sec-Fetch-Site", "none"}, 200},
		{"a form of another page", "POST", false, []string{"Content-Type", plain}, 403},
		{"a form without a kind", "POST", false, nil, 403},
		{"a page of another site", "POST", false, []string{"Content-Type", kind, "Sec-Fetch-Site", "cross-site"}, 403},
		{"a page of another port", "POST", true, []string{"Content-Type", kind, "Sec-Fetch-Site", "same-site"}, 403},
		{"an older browser's page of another site", "POST", true, []string{"Content-Type", kind, "Origin", "http://evil.example"}, 403},
		{"a page without an origin", "POST", true, []string{"Content-Type", kind, "Origin", "null"}, 403},
		{"a script tag of another site", "GET", true, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a name that leads here", "GET", false, []string{"Host", "evil.example:4580"}, 403},
		{"the same where a login is needed", "GET", true, []string{"Host", "queue.example:4580"}, 200},
		{"a name without dots", "GET", false, []string{"Host", "queue:4580"}, 200},
		{"IPv6", "GET", false, []string{"Host", "[::1]:4580"}, 200},
	} {
		p := serve(&fake{required: test.required})
		path := map[string]string{"GET": "/api/overview", "POST": "/api/request"}[test.method]
		resp, body := call(p, test.method, path, `{"op":"ping"}`, append(test.headers, "Authorization", "Bearer x")...)
		if resp.StatusCode != test.status {
			t.Errorf("%s: %d %s", test.what, resp.StatusCode, body)
		}
	}
}

func TestHeaders(t *testing.T) {
	p := serve(&fake{})
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/assets/js/app.js": "text/javascript; charset=utf-8", "/assets/style.css": "text/css; charset=utf-8",
		"/assets/vendor/uPlot.LICENSE.txt": "text/plain; charset=utf-8", "/api/me": "application/json",
	} {
		resp, body := call(p, "GET", path, "")
		h := resp.Header
		if resp.StatusCode != 200 || h.Get("Content-Type") != kind || len(body) == 0 {
			t.Errorf("%s: %d %s, %d bytes", path, resp.StatusCode, h.Get("Content-Type"), len(body))
		}
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if h.Get("Access-Control-Allow-Origin") != "" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, h)
		}
	}
	for _, path := range []string{"/assets/../page.go", "/assets/none.js", "/assets/", "/api/nothing"} {
		if resp, _ := call(p, "GET", path, ""); resp.StatusCode != 404 && resp.StatusCode/100 != 3 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	resp, _ := call(p, "GET", "/assets/style.css", "")
	if again, body := call(p, "GET", "/assets/style.css", "", "If-None-Match", resp.Header.Get("ETag")); again.StatusCode != 304 || body != "" {
		t.Errorf("a file that has not changed: %d, %d bytes", again.StatusCode, len(body))
	}
}

func TestLogin(t *testing.T) {
	p := serve(&fake{required: true})
	if resp, body := call(p, "GET", "/api/overview", ""); resp.StatusCode != 401 || !strings.Contains(body, `"code":"unauthenticated"`) || resp.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("nobody: %d %s", resp.StatusCode, body)
	}
	if resp, body := call(p, "GET", "/api/me", ""); resp.StatusCode != 200 || !strings.Contains(body, `"logged_in":false`) {
		t.Errorf("nobody: %d %s", resp.StatusCode, body)
	}
	if resp, _ := call(p, "POST", "/api/login", `{"user":"ann","password":"wrong"}`, "Content-Type", "application/json"); resp.StatusCode != 401 || len(resp.Cookies()) > 0 {
		t.Errorf("wrong: %d", resp.StatusCode)
	}
	resp, _ := call(p, "POST", "/api/login", `{"user":"ann","password":"right"}`, "Content-Type", "application/json")
	cs := resp.Cookies()
	if resp.StatusCode != 200 || len(cs) != 1 || !cs[0].HttpOnly || cs[0].SameSite != http.SameSiteStrictMode || cs[0].Path != "/" || cs[0].Domain != "" {
		t.Fatalf("right: %d %+v", resp.StatusCode, cs)
	}
	shown := cs[0].Name + "=" + cs[0].Value
	if resp, body := call(p, "GET", "/api/me", "", "Cookie", shown); resp.StatusCode != 200 || !strings.Contains(body, `"name":"ann"`) {
		t.Errorf("ann: %d %s", resp.StatusCode, body)
	}
	if resp, _ := call(p, "POST", "/api/logout", "{}", "Content-Type", "application/json", "Cookie", shown); len(resp.Cookies()) != 1 || resp.Cookies()[0].MaxAge >= 0 {
		t.Error("the cookie stays after the logout")
	}
	if resp, _ := call(p, "POST", "/api/login", `{"token":"`+strings.Repeat("x", maxLogin)+`"}`, "Content-Type", "application/json"); resp.StatusCode != 400 {
		t.Errorf("a login as long as a novel: %d", resp.StatusCode)
	}
}

func TestRequestsGoThroughAsTheyAre(t *testing.T) {
	f := &fake{}
	p := serve(f)
	line := `{"op":"publish","queue":"q","body":{"n": 12345678901234567890.10}}`
	if resp, body := call(p, "POST", "/api/request", line, "Content-Type", "application/json"); resp.StatusCode != 200 || body != "{\"ok\":true}\n" || f.asked[0] != line {
		t.Errorf("%d %s; asked: %v", resp.StatusCode, body, f.asked)
	}
	for code, status := range map[wire.Code]int{
		wire.CodeForbidden: 403, wire.CodeNotFound: 404, wire.CodeBadRequest: 400, wire.CodeExists: 409, wire.CodeRateLimited: 429, wire.CodeOverloaded: 503, wire.CodeDiskFull: 503, wire.CodeUnknownOutcome: 504,
	} {
		f.reply = func(string) string { return string(wire.AppendError(nil, nil, wire.Errorf(code, "no"))) }
		if resp, body := call(p, "POST", "/api/request", line, "Content-Type", "application/json"); resp.StatusCode != status || !strings.Contains(body, string(code)) {
			t.Errorf("%s: %d %s", code, resp.StatusCode, body)
		}
	}
	if resp, _ := call(p, "POST", "/api/request", strings.Repeat(" ", 1000+lineOverhead+1), "Content-Type", "application/json"); resp.StatusCode != 413 {
		t.Errorf("a line that is too long: %d", resp.StatusCode)
	}
}

func get[T any](t *testing.T, p *Page, path string) (is T) {
	t.Helper()
	resp, body := call(p, "GET", path, "")
	if err := json.Unmarshal([]byte(body), &is); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %d, %v, %s", path, resp.StatusCode, err, body)
	}
	return is
}

func names(rows []row) string {
	var all []string
	for _, r := range rows {
		all = append(all, r.Queue)
	}
	return strings.Join(all, " ")
}

func TestQueues(t *testing.T) {
	f := &fake{}
	f.stats.Store(someQueues(12))
	p := serve(f)
	for query, want := range map[string]string{
		"limit=3":                       "q1 q10 q11",
		"limit=3&offset=10":             "q8 q9",
		"offset=99":                     "",
		"prefix=q1":                     "q1 q10 q11 q12",
		"search=2":                      "q12 q2",
		"sort=ready&down=true&limit=2":  "q12 q11",
		"sort=oldest&down=true&limit=2": "q1 q2",
		"sort=ready&limit=2":            "q1 q2",
		"sort=queue&down=true&limit=2":  "q9 q8",
	} {
		s := f.stats.Load() // in order of names, as the source has them
		sortByName(s)
		if is := get[list](t, p, "/api/queues?"+query); names(is.Queues) != want {
			t.Errorf("%s: %s", query, names(is.Queues))
		}
	}
	for _, query := range []string{"limit=0", "limit=1001", "offset=-1", "sort=secret"} {
		if resp, body := call(p, "GET", "/api/queues?"+query, ""); resp.StatusCode != 400 {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body)
		}
	}
}

func sortByName(s *admin.Stats) {
	for i := range s.Queues {
		for j := i; j > 0 && s.Queues[j].Name < s.Queues[j-1].Name; j-- {
			s.Queues[j], s.Queues[j-1] = s.Queues[j-1], s.Queues[j]
		}
	}
}

// Who may not see a queue learns of it from no list, no sum and no stream.
func TestOnlyWhatSomebodyMaySee(t *testing.T) {
	f := &fake{sees: func(name string) bool { return name == "q2" }}
	p := serve(f)
	if is := get[list](t, p, "/api/queues"); names(is.Queues) != "q2" || is.Total != 1 {
		t.Errorf("queues: %+v", is)
	}
	o := get[overview](t, p, "/api/overview")
	if o.Totals.Queues != 1 || o.Totals.Ready != 20 || names(o.Busiest) != "q2" || o.Server != nil || o.Oldest.Queue != "q2" || o.Ready != "draining" {
		t.Errorf("overview: %+v", o)
	}
	if is := get[topicList](t, p, "/api/topics"); is.Total != 2 || is.Bindings[0].Queue != "q2" {
		t.Errorf("topics: %+v", is)
	}
	f.publishes = "q3" // as queue.list shows it, and no more
	rows := get[list](t, p, "/api/queues?sort=consumers&down=true").Queues
	if want := (row{Queue: "q3", Storage: "file", Ready: 30, Limited: true}); names(rows) != "q2 q3" || rows[1] != want {
		t.Errorf("who may publish only: %+v", rows)
	}
	o = get[overview](t, p, "/api/overview")
	if o.Totals.Ready != 50 || o.Totals.Consumers != 1 || o.Oldest.Queue != "q2" || get[topicList](t, p, "/api/topics").Total != 2 {
		t.Errorf("who may publish only: %+v", o)
	}
	f.sees, f.publishes = nil, ""
	if o := get[overview](t, p, "/api/overview"); o.Totals.Queues != 3 || o.Server == nil || o.Server.Errors["queue_full"] != 2 {
		t.Errorf("who may see all: %+v", o)
	}
}

// someCluster has three nodes, of which one is away.
func someCluster() *admin.ClusterStats {
	c := &admin.ClusterStats{Replicas: 3, Nodes: []admin.NodeStats{
		{Name: "n1", Address: "10.0.0.1:4567", Internal: "10.0.0.1:4569", State: "member", Reachable: true, Leads: 1, Version: "1", Here: true},
		{Name: "n2", Address: "10.0.0.2:4567", Internal: "10.0.0.2:4569", State: "member", Behind: 7},
		{Name: "n3", Address: "10.0.0.3:4567", Internal: "10.0.0.3:4569", State: "member", Reachable: true, Version: "1"},
	}}
	for i, leader := range []string{"n1", ""} {
		c.Groups = append(c.Groups, admin.Group{Number: i, Leader: leader, Term: 3, Members: []string{"n1", "n2", "n3"}})
	}
	return c
}

func TestCluster(t *testing.T) {
	s := someQueues(1)
	s.Queues[0].Leader = "n3"
	s.Cluster = someCluster()
	f := &fake{}
	f.stats.Store(s)
	p := serve(f)
	is := get[clusterView](t, p, "/api/cluster")
	if is.Alone || is.Spare != 0 || is.Leaderless != 1 || len(is.Nodes) != 3 || is.Nodes[1].Behind != 7 || len(is.Groups) != 2 || is.Groups[0].Leader != "n1" {
		t.Errorf("%+v", is)
	}
	s.Cluster.Nodes[2].Reachable = false
	if is := clusterOf(&look{stats: *s}); is.Spare != -1 {
		t.Errorf("with one of three the loss of %d more is survived", is.Spare)
	}
	s.Cluster.Groups[0].Members = []string{"n1"}
	if is := clusterOf(&look{stats: *s}); is.Spare != -1 || is.Lost != 1 || is.Total != 2 {
		t.Errorf("of %d groups, of which one is at a node that is there, %d are lost", is.Total, is.Lost)
	}
	if is := get[list](t, p, "/api/queues"); is.Queues[0].Leader != "n3" {
		t.Errorf("%+v", is.Queues)
	}
	f.sees = func(string) bool { return true } // queues, and not everything
	if resp, body := call(p, "GET", "/api/cluster", ""); resp.StatusCode != 403 {
		t.Errorf("one without the right: %d %s", resp.StatusCode, body)
	}
	f = &fake{}
	if is := get[clusterView](t, serve(f), "/api/cluster"); !is.Alone || is.Replicas != 1 {
		t.Errorf("a server alone: %+v", is)
	}
}

func TestNodesAreThereInAClusterOnly(t *testing.T) {
	f := &fake{}
	p := serve(f)
	if _, body := call(p, "GET", "/api/overview", ""); strings.Contains(body, `"nodes"`) {
		t.Errorf("a server alone: %s", body)
	}
	s := someQueues(1)
	s.Cluster = someCluster()
	f = &fake{}
	f.stats.Store(s)
	if o := get[overview](t, serve(f), "/api/overview"); len(o.Server.Nodes) != 3 || o.Server.Nodes[0].Leads != 1 || *o.Server.Spare != 0 {
		t.Errorf("%+v", o.Server)
	}
}

func TestConcerns(t *testing.T) {
	s := &admin.Stats{Queues: []admin.QueueStats{
		{Name: "a", Ready: 5}, {Name: "a.dlq", Ready: 2, Leased: 1}, {Name: "b", Ready: 1, Paused: true, Consumers: 1}, {Name: "c", Ready: 9, Consumers: 1}, {Name: "d.dlq"}, {Name: "e", Ready: 7},
	}}
	before := *s
	before.Queues = append([]admin.QueueStats(nil), s.Queues...)
	s.Queues[5].Delivered = 3 // by receives: nobody is subscribed, and yet it is consumed
	now := time.Now()
	l := take(take(nil, before, now.Add(-time.Second)), *s, now)
	var all []string
	for i := range s.Queues {
		if c := l.concern(i); c.Why != "" {
			all = append(all, fmt.Sprint(c.Queue, " ", c.Why, " ", c.Messages))
		}
	}
	if got := strings.Join(all, ", "); got != "a no_consumer 5, a.dlq dead_letters 3, b paused 1" {
		t.Error(got)
	}
}
