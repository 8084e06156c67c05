package page

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gmq/gmq/internal/admin"
)

func TestRates(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	before := admin.Stats{Errors: map[string]uint64{"queue_full": 1}, Queues: []admin.QueueStats{{Name: "a", Published: 10}, {Name: "b", Published: 5}, {Name: "d", Published: 100, Acked: 50}}}
	after := admin.Stats{Errors: map[string]uint64{"queue_full": 1, "paused": 4}, Queues: []admin.QueueStats{{Name: "a", Published: 30}, {Name: "c", Published: 6}, {Name: "d", Published: 4, Acked: 2}}}
	first := take(nil, before, at)
	if first.rates != nil || first.over != 0 {
		t.Error("rates are known after one look")
	}
	l := take(first, after, at.Add(2*time.Second))
	for i, want := range []rates{{Published: 10}, {Published: 3}, {Published: 2, Acked: 1}} { // b is gone, c is new, and d has been made anew
		if l.rates[i] != want {
			t.Errorf("%s: %+v", after.Queues[i].Name, l.rates[i])
		}
	}
	if l.errors != 2 {
		t.Errorf("errors: %v", l.errors)
	}
	if l := take(l, after, l.at.Add(rateFor+1)); l.rates != nil {
		t.Error("a look of long ago was taken for rates of now")
	}
}

// While somebody watches there is a look every second; when the last one has gone nothing runs any more.
func TestNothingRunsWhileNobodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.stats.Store(someQueues(3))
		s := newSampler(f)
		wait(time.Hour)
		if f.looks.Load() != 0 {
			t.Errorf("%d looks that nobody has asked for", f.looks.Load())
		}
		one, stop := s.watch()
		<-one // at once
		two, stopTwo := s.watch()
		for range 10 {
			if a, b := <-one, <-two; a != b {
				t.Error("two who watch cause two looks")
			}
		}
		if n := f.looks.Load(); n != 11 {
			t.Errorf("%d looks in 10 seconds", n)
		}
		stop()
		<-two
		stopTwo()
		synctest.Wait()
		before := f.looks.Load()
		wait(time.Hour)
		if n := f.looks.Load() - before; n != 0 {
			t.Errorf("%d looks while nobody watched", n)
		}
		s.looking.Lock()
		last := s.last
		s.looking.Unlock()
		if watchers, running := s.watched(); watchers != 0 || running || last != nil {
			t.Errorf("%d watch, running: %v", watchers, running)
		}
		three, stop := s.watch() // and it begins again
		<-three
		<-three
		stop()
		wait(2 * lookEvery)
	})
}

// slow is a source whose looks take long.
type slow struct{ took time.Duration }

func (s slow) Stats() admin.Stats { wait(s.took); return admin.Stats{} }

// Where a look takes long there are fewer of them.
func TestLookingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSampler(slow{20 * time.Millisecond})
		looks, stop := s.watch()
		<-looks
		began := time.Now()
		<-looks
		if gap := time.Since(began); gap < 100*20*time.Millisecond || gap > longest {
			t.Errorf("looks that take 20ms every %v", gap)
		}
		stop()
		wait(time.Minute)
	})
}

// A stream gives numbers until whoever takes it has gone, or may not any more.
func TestStream(t *testing.T) {
	f := &fake{}
	p := serve(f)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: p, ReadTimeout: time.Second, WriteTimeout: time.Second}
	go s.Serve(l)
	defer s.Close()
	open := func(path string) (*http.Response, context.CancelFunc) {
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String()+path, nil)
		r.Header.Set("Accept", "text/event-stream")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp, cancel
	}
	resp, cancel := open("/api/queues?limit=1")
	lines := bufio.NewScanner(resp.Body)
	seen := 0
	for seen < 3 && lines.Scan() { // for longer than a request may take
		data, is := strings.CutPrefix(lines.Text(), "data: ")
		var got list
		if is && json.Unmarshal([]byte(data), &got) == nil && got.Total == 3 && len(got.Queues) == 1 {
			seen++
		}
	}
	if seen != 3 {
		t.Errorf("%d events: %v", seen, lines.Err())
	}
	cancel()
	resp, cancel = open("/api/overview")
	defer cancel()
	f.ended.Store(true)
	lines = bufio.NewScanner(resp.Body)
	for lines.Scan() { // it ends by itself
	}
	if lines.Err() != nil {
		t.Error(lines.Err())
	}
}

func TestStreamsAreBounded(t *testing.T) {
	s := streams{by: map[string]int{}}
	for i := range maxOwnStreams {
		if err := s.begin("ann"); err != nil {
			t.Fatal(i, err)
		}
	}
	if s.begin("ann") == nil {
		t.Error("one user may open as many as he likes")
	}
	for s.begin("") == nil {
	}
	if s.all != maxStreams || s.begin("bob") == nil {
		t.Errorf("%d streams", s.all)
	}
	s.end("ann")
	if err := s.begin("bob"); err != nil {
		t.Error(err)
	}
}

// wait lets a time of a bubble go by.
func wait(d time.Duration) { <-time.After(d) }
