package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/gmq/gmq/wire"
)

const (
	defaultRows = 50
	mostRows    = 1000
	// mostConsumers of a queue are listed.
	mostConsumers = 200
)

type list struct {
	moment
	Total  int   `json:"total"`  // queues that match
	Offset int   `json:"offset"` // of the first of these
	Queues []row `json:"queues"`
}

// queues lists queues.
func (p *Page) queues(w http.ResponseWriter, r *http.Request, v Visitor) {
	query := r.URL.Query()
	offset, limit, err := paging(r)
	by := query.Get("sort")
	if err == nil && by != "" && by != "queue" && columns[by] == nil {
		err = wire.Errorf(wire.CodeBadRequest, "sort must be queue, ready, leased, delayed, bytes, consumers, oldest, published, delivered, acked or busy, not %.64q", by)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	prefix, part, down := query.Get("prefix"), strings.ToLower(query.Get("search")), query.Get("down") == "true"
	sight := newSight(v)
	p.show(w, r, v, func(l *look) (any, *wire.Error) {
		var matching []int
		for _, i := range sight.of(l) {
			name := l.stats.Queues[i].Name
			if strings.HasPrefix(name, prefix) && strings.Contains(strings.ToLower(name), part) {
				matching = append(matching, i)
			}
		}
		is := list{moment: l.moment(), Total: len(matching), Offset: offset, Queues: []row{}}
		matching = l.sorted(matching, sight, by, down)
		from := min(offset, len(matching))
		for _, i := range matching[from:min(from+limit, len(matching))] {
			is.Queues = append(is.Queues, l.row(i, sight.knows(l.stats.Queues[i].Name)))
		}
		return is, nil
	})
}

// paging is which part of a list is asked for.
func paging(r *http.Request) (offset, limit int, err *wire.Error) {
	offset, err = number(r, "offset", 0, 0, 1<<31)
	if err == nil {
		limit, err = number(r, "limit", defaultRows, 1, mostRows)
	}
	return offset, limit, err
}

func number(r *http.Request, name string, otherwise, least, most int) (int, *wire.Error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, wire.Errorf(wire.CodeBadRequest, "%s must be %d to %d, not %.64q", name, least, most, text)
	}
	return n, nil
}

// queueView is queue.info with what is seen besides.
type queueView struct {
	moment
	Info      json.RawMessage `json:"info"` // the reply to queue.info
	Row       *row            `json:"now,omitempty"`
	Consumers []Consumer      `json:"consumers"`
}

// queue shows one queue.
func (p *Page) queue(w http.ResponseWriter, r *http.Request, v Visitor) {
	name := r.PathValue("queue")
	p.show(w, r, v, func(l *look) (any, *wire.Error) {
		a := askFor(r, v, map[string]any{"op": "queue.info", "queue": name})
		if a.err != nil {
			return nil, a.err
		}
		is := queueView{moment: l.moment(), Info: a.raw, Consumers: p.source.Consumers(name, mostConsumers)}
		if is.Consumers == nil {
			is.Consumers = []Consumer{}
		}
		if i, found := l.find(name); found {
			row := l.row(i, true)
			is.Row = &row
		}
		return is, nil
	})
}

// find gives the index of a queue.
func (l *look) find(name string) (int, bool) {
	queues := l.stats.Queues
	lo, hi := 0, len(queues)
	for lo < hi {
		if mid := (lo + hi) / 2; queues[mid].Name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(queues) && queues[lo].Name == name
}

type topicList struct {
	Total    int       `json:"total"`
	Offset   int       `json:"offset"`
	Bindings []Binding `json:"bindings"`
}

// topics lists what is bound to which pattern.
func (p *Page) topics(w http.ResponseWriter, r *http.Request, v Visitor) {
	offset, limit, err := paging(r)
	topic, part := r.URL.Query().Get("topic"), r.URL.Query().Get("search")
	if err == nil && topic != "" && !wire.ValidTopic([]byte(topic)) {
		err = wire.Errorf(wire.CodeBadRequest, "%.64q is no topic: words of A-Z a-z 0-9 _ - with dots between them", topic)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	sight := newSight(v)
	sight.refresh()
	is := topicList{Offset: offset, Bindings: []Binding{}}
	for _, b := range p.source.Bindings(topic) {
		if !sight.knows(b.Queue) || !strings.Contains(b.Pattern, part) && !strings.Contains(b.Queue, part) {
			continue
		}
		if is.Total >= offset && len(is.Bindings) < limit {
			is.Bindings = append(is.Bindings, b)
		}
		is.Total++
	}
	send(w, http.StatusOK, is)
}

// refusal is an error of a page's own query.
func refusal(format string, args ...any) *wire.Error {
	return wire.Errorf(wire.CodeBadRequest, "%s", fmt.Sprintf(format, args...))
}
