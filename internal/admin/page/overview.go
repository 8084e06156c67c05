package page

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gmq/gmq/wire"
)

const (
	deadSuffix    = ".dlq" // of the names of dead-letter queues (R60)
	mostBusy      = 10     // queues that are shown as the busiest
	mostAttention = 20     // and as those that want looking at
)

// A moment is what every view begins with.
type moment struct {
	At   time.Time `json:"at"`
	Over float64   `json:"over_seconds"` // what rates are about; 0 where there are none, as nobody has looked just before
}

func (l *look) moment() moment { return moment{l.at.UTC(), seconds(l.over)} }

// totals are sums over the queues that somebody sees.
type totals struct {
	Queues    int    `json:"queues"`
	Ready     uint64 `json:"ready"`
	Leased    uint64 `json:"leased"`
	Delayed   uint64 `json:"delayed"`
	Bytes     uint64 `json:"bytes"`
	Consumers int    `json:"consumers"`
}

// A row is a queue in a list.
type row struct {
	Queue     string  `json:"queue"`
	Storage   string  `json:"storage"`
	Paused    bool    `json:"paused"`
	Ready     uint64  `json:"ready"`
	Leased    uint64  `json:"leased"`
	Delayed   uint64  `json:"delayed"`
	Bytes     uint64  `json:"bytes"`
	Consumers int     `json:"consumers"`
	Oldest    float64 `json:"oldest_age_seconds"`
	Rates     *rates  `json:"rates,omitempty"`   // a second; not there where nothing is known
	Leader    string  `json:"leader,omitempty"`  // the node that leads it, where that is another one
	Limited   bool    `json:"limited,omitempty"` // who asks gets what queue.list tells of it; the rest is 0
}

// row is a queue as it is shown to one who knows all of it, or may only see that it is there.
func (l *look) row(i int, known bool) row {
	q := &l.stats.Queues[i]
	if !known {
		return row{Queue: q.Name, Storage: q.Storage, Ready: q.Ready, Leased: q.Leased, Delayed: q.Delayed, Leader: q.Leader, Limited: true}
	}
	r := row{Queue: q.Name, Storage: q.Storage, Paused: q.Paused, Ready: q.Ready, Leased: q.Leased, Delayed: q.Delayed,
		Bytes: q.Bytes, Consumers: q.Consumers, Leader: q.Leader, Oldest: seconds(q.OldestAgeSeconds)}
	if l.rates != nil {
		rates := l.rates[i]
		r.Rates = &rates
	}
	return r
}

// seconds cuts what nobody wants to know.
func seconds(s float64) float64 { return math.Round(s*1000) / 1000 }

// A concern is a queue that wants looking at, and why.
type concern struct {
	Queue    string `json:"queue"`
	Why      string `json:"why"`      // dead_letters, no_consumer or paused
	Messages uint64 `json:"messages"` // that are concerned
}

// urgency is the order of concerns: what has failed comes before what waits, and that before what somebody has stopped.
var urgency = map[string]int{"dead_letters": 0, "no_consumer": 1, "paused": 2}

// serverView is what is of no one queue.
type serverView struct {
	Uptime          float64           `json:"uptime_seconds"`
	Connections     int               `json:"connections"`
	RequestRate     float64           `json:"requests_per_second"`
	ErrorRate       float64           `json:"errors_per_second"`
	Requests        map[string]uint64 `json:"requests"` // since the start, by operation
	Errors          map[string]uint64 `json:"errors"`   // since the start, by code
	MemoryUsed      int64             `json:"memory_used_bytes"`
	MemoryLimit     int64             `json:"memory_limit_bytes"`
	ProcessBytes    int64             `json:"process_bytes"`
	JournalBytes    int64             `json:"journal_bytes"`
	JournalLive     int64             `json:"journal_live_bytes"`
	DiskFree        int64             `json:"disk_free_bytes"`
	DiskTotal       int64             `json:"disk_total_bytes"`
	MySQLUp         *bool             `json:"mysql_up,omitempty"`
	CertificateEnds *time.Time        `json:"certificate_ends,omitempty"`
	Audit           string            `json:"audit"`
	AuditFailed     uint64            `json:"audit_write_failures"`
	Nodes           []nodeView        `json:"nodes,omitempty"` // of a cluster
	Spare           *int              `json:"spare_nodes,omitempty"`
	Groups          int               `json:"groups_total,omitempty"`
	Lost            int               `json:"groups_lost,omitempty"`
	Leaderless      int               `json:"groups_without_leader,omitempty"`
}

type overview struct {
	moment
	Version   string      `json:"version"`
	Node      string      `json:"node"`
	Ready     string      `json:"ready"` // yes, or why not
	Totals    totals      `json:"totals"`
	Rates     *rates      `json:"rates,omitempty"`
	Oldest    *row        `json:"oldest,omitempty"` // the queue with the oldest message; none where all are empty
	Busiest   []row       `json:"busiest"`
	Attention []concern   `json:"attention"`
	Server    *serverView `json:"server,omitempty"` // for those who may see /metrics
}

func (p *Page) overview(w http.ResponseWriter, r *http.Request, v Visitor) {
	sight := newSight(v)
	p.show(w, r, v, func(l *look) (any, *wire.Error) { return p.overviewOf(l, sight), nil })
}

func (p *Page) overviewOf(l *look, sight *sight) *overview {
	o := &overview{moment: l.moment(), Version: l.stats.Version, Node: l.stats.Node, Ready: "yes", Busiest: []row{}, Attention: []concern{}}
	if err := p.source.Ready(); err != nil {
		o.Ready = err.Error()
	}
	if l.rates != nil {
		o.Rates = &rates{}
	}
	seen := sight.of(l)
	oldest := -1
	for _, i := range seen {
		q := &l.stats.Queues[i]
		t := &o.Totals
		t.Queues++
		t.Ready, t.Leased, t.Delayed = t.Ready+q.Ready, t.Leased+q.Leased, t.Delayed+q.Delayed
		if !sight.knows(q.Name) {
			continue
		}
		t.Bytes, t.Consumers = t.Bytes+q.Bytes, t.Consumers+q.Consumers
		if l.rates != nil {
			o.Rates.add(l.rates[i])
		}
		if q.OldestAgeSeconds > 0 && (oldest < 0 || q.OldestAgeSeconds > l.stats.Queues[oldest].OldestAgeSeconds) {
			oldest = i
		}
		if c := l.concern(i); c.Why != "" {
			o.Attention = append(o.Attention, c)
		}
	}
	if oldest >= 0 {
		r := l.row(oldest, true)
		o.Oldest = &r
	}
	slices.SortStableFunc(o.Attention, func(a, b concern) int {
		return cmp.Or(cmp.Compare(urgency[a.Why], urgency[b.Why]), cmp.Compare(b.Messages, a.Messages))
	})
	o.Attention = o.Attention[:min(len(o.Attention), mostAttention)]
	for _, i := range l.busiest(seen, sight) {
		o.Busiest = append(o.Busiest, l.row(i, sight.knows(l.stats.Queues[i].Name)))
	}
	if sight.server() {
		o.Server = serverOf(l)
	}
	return o
}

// concern is why a queue wants looking at; nothing where it does not.
func (l *look) concern(i int) concern {
	q := &l.stats.Queues[i]
	taken := l.rates != nil && l.rates[i].Delivered > 0
	switch {
	case strings.HasSuffix(q.Name, deadSuffix) && q.Ready+q.Leased+q.Delayed > 0:
		return concern{q.Name, "dead_letters", q.Ready + q.Leased + q.Delayed}
	case q.Paused:
		return concern{q.Name, "paused", q.Ready}
	case q.Ready > 0 && q.Consumers == 0 && !taken:
		return concern{q.Name, "no_consumer", q.Ready}
	}
	return concern{}
}

func serverOf(l *look) *serverView {
	s := &l.stats
	view := &serverView{
		Uptime: math.Floor(l.at.Sub(s.Started).Seconds()), Connections: s.Connections,
		RequestRate: l.requests, ErrorRate: l.errors, Requests: s.Requests, Errors: s.Errors,
		MemoryUsed: s.MemoryUsed, MemoryLimit: s.MemoryLimit, ProcessBytes: s.ProcessBytes,
		JournalBytes: s.JournalBytes, JournalLive: s.JournalLiveBytes, DiskFree: s.DiskFree, DiskTotal: s.DiskTotal,
		MySQLUp: s.MySQL, Audit: s.Audit, AuditFailed: s.AuditFailed,
	}
	if s.TLS != nil {
		view.CertificateEnds = &s.TLS.Expiry
	}
	if s.Cluster != nil {
		c := clusterOf(l)
		view.Nodes, view.Spare, view.Groups, view.Lost, view.Leaderless = c.Nodes, &c.Spare, c.Total, c.Lost, c.Leaderless
	}
	return view
}

// A sight is which queues somebody sees. It belongs to one goroutine.
type sight struct {
	v          Visitor
	generation uint64
	all        bool             // nothing is hidden
	seen       map[string]depth // what is known of the others
}

// depth is how much of a queue somebody sees: what queue.list shows of it, or what queue.info does.
type depth uint8

const (
	hidden depth = iota + 1
	listed
	known
)

func newSight(v Visitor) *sight { return &sight{v: v} }

func (s *sight) refresh() {
	if g := s.v.Generation(); s.seen == nil || g != s.generation {
		s.generation, s.seen = g, map[string]depth{}
		s.all = s.v.May(informed, "")
	}
}

// of are the queues of a look that are seen, by index.
func (s *sight) of(l *look) []int {
	s.refresh()
	seen := make([]int, 0, len(l.stats.Queues))
	for i := range l.stats.Queues {
		if s.sees(l.stats.Queues[i].Name) {
			seen = append(seen, i)
		}
	}
	return seen
}

// informed are the rights of which one lets somebody have queue.info.
const informed = wire.VerbConsume | wire.VerbPeek | wire.VerbManage

func (s *sight) depth(name string) depth {
	d := s.seen[name]
	switch {
	case s.all:
		return known
	case d != 0:
		return d
	case s.v.May(informed, name):
		d = known
	case s.v.May(wire.AnyVerb, name):
		d = listed
	default:
		d = hidden
	}
	s.seen[name] = d
	return d
}

// sees is whether somebody has any right on a queue, as for queue.list.
func (s *sight) sees(name string) bool { return s.depth(name) >= listed }

// knows is whether he has one of those that queue.info needs.
func (s *sight) knows(name string) bool { return s.depth(name) == known }

func (s *sight) server() bool { return seesServer(s.v) }

// sorted orders queues by a column. What somebody does not know has no part in it.
func (l *look) sorted(queues []int, s *sight, by string, down bool) []int {
	value := columns[by]
	if value == nil { // by name, as they are
		if down {
			slices.Reverse(queues)
		}
		return queues
	}
	values := make([]float64, len(l.stats.Queues))
	for _, i := range queues {
		if public[by] || s.knows(l.stats.Queues[i].Name) {
			values[i] = value(l, i)
		}
	}
	slices.SortFunc(queues, func(a, b int) int { // those that are alike by name
		c := cmp.Compare(values[a], values[b])
		if down {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(a, b))
	})
	return queues
}

// busiest are the few queues with the most to do, the first one first, without sorting all of them.
func (l *look) busiest(queues []int, s *sight) []int {
	top := make([]int, 0, mostBusy+1)
	value := func(i int) float64 {
		if s.knows(l.stats.Queues[i].Name) {
			return busy(l, i)
		}
		return 0
	}
	for _, i := range queues {
		is := value(i)
		if len(top) == mostBusy && is <= value(top[mostBusy-1]) {
			continue
		}
		at := len(top)
		for at > 0 && is > value(top[at-1]) {
			at--
		}
		top = slices.Insert(top, at, i)
		top = top[:min(len(top), mostBusy)]
	}
	return top
}

// columns are what lists can be ordered by, besides names.
var columns = map[string]func(l *look, i int) float64{
	"ready":     func(l *look, i int) float64 { return float64(l.stats.Queues[i].Ready) },
	"leased":    func(l *look, i int) float64 { return float64(l.stats.Queues[i].Leased) },
	"delayed":   func(l *look, i int) float64 { return float64(l.stats.Queues[i].Delayed) },
	"bytes":     func(l *look, i int) float64 { return float64(l.stats.Queues[i].Bytes) },
	"consumers": func(l *look, i int) float64 { return float64(l.stats.Queues[i].Consumers) },
	"oldest":    func(l *look, i int) float64 { return l.stats.Queues[i].OldestAgeSeconds },
	"published": rated(func(r *rates) float64 { return r.Published }),
	"delivered": rated(func(r *rates) float64 { return r.Delivered }),
	"acked":     rated(func(r *rates) float64 { return r.Acked }),
	"busy":      busy,
}

// public are the columns that queue.list shows to whoever sees a queue at all.
var public = map[string]bool{"ready": true, "leased": true, "delayed": true}

func rated(of func(*rates) float64) func(l *look, i int) float64 {
	return func(l *look, i int) float64 {
		if l.rates == nil {
			return 0
		}
		return of(&l.rates[i])
	}
}

// busy is how much goes on in a queue; of those where nothing does, how much is in them.
func busy(l *look, i int) float64 {
	q := &l.stats.Queues[i]
	depth := float64(q.Ready + q.Leased + q.Delayed)
	if l.rates == nil {
		return depth
	}
	r := &l.rates[i]
	return (r.Published+r.Delivered)*1e12 + depth
}
