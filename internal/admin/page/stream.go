package page

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gmq/gmq/wire"
)

// A view makes of a look what a visitor is to see. It is asked in one goroutine.
type view func(l *look) (any, *wire.Error)

// show answers with a view of how things stand, or, to whoever takes text/event-stream (HTML, 9.2), with one after another.
func (p *Page) show(w http.ResponseWriter, r *http.Request, v Visitor, of view) {
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		p.stream(w, r, v, of)
		return
	}
	is, err := of(p.looks.current())
	if err != nil {
		refuse(w, statusOf(err.Code), err)
		return
	}
	send(w, http.StatusOK, is)
}

// stream sends views until whoever takes them has gone, may not see them any more, or does not take them.
func (p *Page) stream(w http.ResponseWriter, r *http.Request, v Visitor, of view) {
	if err := p.streams.begin(v.Name()); err != nil {
		refuse(w, statusOf(err.Code), err)
		return
	}
	defer p.streams.end(v.Name())
	is, err := of(p.looks.current())
	if err != nil {
		refuse(w, statusOf(err.Code), err)
		return
	}
	looks, stop := p.looks.watch()
	defer stop()
	control := http.NewResponseController(w)
	// Else the time for reading the request would end it. It fails only where there are no deadlines.
	_ = control.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	for {
		if err != nil || !event(w, control, is) {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case l := <-looks:
			if !v.Alive() {
				return
			}
			is, err = of(l)
		}
	}
}

// streams counts those that are open.
type streams struct {
	mu  sync.Mutex // guards the following
	all int
	by  map[string]int // user; "" is everybody where nobody is asked
}

func (s *streams) begin(user string) *wire.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.all >= maxStreams:
		return wire.Errorf(wire.CodeOverloaded, "%d pages are open already, as many as there may be", s.all)
	case user != "" && s.by[user] >= maxOwnStreams:
		return wire.Errorf(wire.CodeOverloaded, "%s has %d pages open already, as many as one user may", user, s.by[user])
	}
	s.all++
	s.by[user]++
	return nil
}

func (s *streams) end(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.by[user]--; s.by[user] == 0 {
		delete(s.by, user)
	}
}

// event writes one event. It is false where nobody takes it.
func event(w http.ResponseWriter, control *http.ResponseController, is any) bool {
	data, err := json.Marshal(is)
	if err != nil {
		return false
	}
	if control.SetWriteDeadline(time.Now().Add(requestTime)) != nil {
		return false
	}
	b := make([]byte, 0, len(data)+8)
	b = append(append(append(b, "data: "...), data...), "\n\n"...)
	if _, err := w.Write(b); err != nil {
		return false
	}
	return control.Flush() == nil
}
