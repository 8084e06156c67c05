package page

import (
	"sync"
	"time"

	"github.com/gmq/gmq/internal/admin"
)

const (
	// lookEvery is how often there is a new look while somebody watches.
	lookEvery = time.Second
	// lookShare bounds what looking costs: between two looks there is so many times what one has taken, up to longest.
	lookShare = 150
	longest   = 5 * time.Second
	// freshFor is how long a look is given again to those who ask once.
	freshFor = 500 * time.Millisecond
	// rateFor is how old the look before may be for rates to be about now.
	rateFor = time.Minute
)

// rates are how often something happened in a second.
type rates struct {
	Published float64 `json:"published"`
	Delivered float64 `json:"delivered"`
	Acked     float64 `json:"acked"`
	Returned  float64 `json:"returned"`
	Dead      float64 `json:"dead"`
}

func (r *rates) add(o rates) {
	r.Published += o.Published
	r.Delivered += o.Delivered
	r.Acked += o.Acked
	r.Returned += o.Returned
	r.Dead += o.Dead
}

// A look is how things stood at a time, and what had happened since the look before. It is never changed.
type look struct {
	at    time.Time
	over  float64 // seconds since the look before; 0: there was none, and nothing is known of rates
	stats admin.Stats
	rates []rates // by queue; nil where nothing is known

	requests, errors float64 // a second
}

// A sampler looks at the server: again and again while somebody watches, else when somebody asks.
type sampler struct {
	source interface{ Stats() admin.Stats }
	now    func() time.Time
	// after is time.AfterFunc, or a test's.
	after func(time.Duration, func()) (stop func() bool)

	looking sync.Mutex // guards last; held while a look is taken, so that many who ask at once cause one
	last    *look

	mu       sync.Mutex // guards the following; never held together with looking
	watchers map[chan *look]struct{}
	running  bool // there is a timer, or a look on its way
}

func newSampler(source interface{ Stats() admin.Stats }) *sampler {
	return &sampler{
		source: source, now: time.Now, watchers: map[chan *look]struct{}{},
		after: func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop },
	}
}

// current is the latest look, or a new one.
func (s *sampler) current() *look {
	s.looking.Lock()
	defer s.looking.Unlock()
	now := s.now()
	if s.last == nil || now.Sub(s.last.at) >= freshFor {
		s.last = take(s.last, s.source.Stats(), now)
	}
	return s.last
}

// forget lets go of the latest look.
func (s *sampler) forget() {
	s.looking.Lock()
	defer s.looking.Unlock()
	s.last = nil
}

// watch gives every look from now on to the channel that is returned, the latest where somebody is slow, until stop.
func (s *sampler) watch() (looks <-chan *look, stop func()) {
	c := make(chan *look, 1)
	s.mu.Lock()
	s.watchers[c] = struct{}{}
	begin := !s.running
	s.running = true
	s.mu.Unlock()
	if begin {
		s.after(0, s.tick)
	}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, c)
	}
}

// tick takes a look and gives it to the watchers. Where there are none it is the last one.
func (s *sampler) tick() {
	if s.idle() {
		s.forget()
		return
	}
	began := s.now()
	l := s.current()
	took := s.now().Sub(began)
	s.mu.Lock()
	for c := range s.watchers {
		select {
		case <-c: // it has not seen the one before
		default:
		}
		c <- l // there is room, and only this goroutine sends
	}
	s.mu.Unlock()
	s.after(min(max(lookEvery, lookShare*took), longest), s.tick)
}

// idle ends the ticking where nobody watches any more.
func (s *sampler) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = len(s.watchers) > 0
	return !s.running
}

// watched is how many watch, and whether anything is going on for them.
func (s *sampler) watched() (watchers int, running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watchers), s.running
}

// take makes a look of what was seen, and of the look before, if any.
func take(last *look, stats admin.Stats, now time.Time) *look {
	l := &look{at: now, stats: stats}
	if last == nil || now.Sub(last.at) > rateFor {
		return l
	}
	l.over = now.Sub(last.at).Seconds()
	if l.over <= 0 {
		l.over = 0
		return l
	}
	per := func(before, after uint64) float64 {
		if after < before { // another queue of that name
			before = 0
		}
		return float64(after-before) / l.over
	}
	l.rates = make([]rates, len(stats.Queues))
	old := last.stats.Queues
	for i := range stats.Queues { // both are in order of names
		q := &stats.Queues[i]
		for len(old) > 0 && old[0].Name < q.Name {
			old = old[1:]
		}
		var o admin.QueueStats
		if len(old) > 0 && old[0].Name == q.Name {
			o = old[0]
		}
		l.rates[i] = rates{per(o.Published, q.Published), per(o.Delivered, q.Delivered), per(o.Acked, q.Acked), per(o.Returned, q.Returned), per(o.Dead, q.Dead)}
	}
	l.requests = per(sum(last.stats.Requests), sum(stats.Requests))
	l.errors = per(sum(last.stats.Errors), sum(stats.Errors))
	return l
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}
