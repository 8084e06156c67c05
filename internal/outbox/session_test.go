package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
)

// stuck is a journal that takes everything and keeps nothing, as one whose storage has just gone.
type stuck struct {
	*journal.Memory
	took chan struct{}
}

func (s stuck) Propose(*journal.Batch) {
	select {
	case s.took <- struct{}{}:
	default:
	}
}

// A mover that is to end does, also while nothing that it has asked for is answered.
func TestEndWhileNothingIsAnswered(t *testing.T) {
	took := make(chan struct{}, 1)
	b, err := broker.Start(broker.Options{
		Limits: broker.Limits{MaxQueues: 100, MaxMessageBytes: 1 << 20, MaxInFlight: 100, AutoCreate: true, Defaults: queue.Settings{Storage: "memory"}},
		Storages: []broker.Storage{{Name: "memory", Stored: "memory", Open: func(_ int, wake func()) journal.Journal {
			return stuck{journal.NewMemory(journal.NewBudget(0), wake), took}
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := NewSession(b)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-took
		cancel()
	}()
	var lines [][]byte
	for i := range 16 {
		lines = append(lines, fmt.Appendf(nil, `{"op":"publish","queue":"q%d","body":"%s"}`, i, strings.Repeat("x", 250<<10)))
	}
	if _, err := s.Publish(ctx, lines); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	s.Close()
}

// What may be published can change while a session goes on.
func TestLimitsChange(t *testing.T) {
	limits := broker.Limits{MaxQueues: 100, MaxMessageBytes: 1000, MaxInFlight: 100, AutoCreate: true, Defaults: queue.Settings{Storage: "memory"}}
	b, err := broker.Start(broker.Options{Limits: limits, Storages: []broker.Storage{{Name: "memory", Stored: "memory", Open: func(_ int, wake func()) journal.Journal {
		return journal.NewMemory(journal.NewBudget(0), wake)
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	s := NewSession(b)
	defer s.Close()
	line := fmt.Appendf(nil, `{"op":"publish","queue":"q","body":"%s"}`, strings.Repeat("x", 1500))
	publish := func() Reply {
		got, err := s.Publish(t.Context(), [][]byte{line})
		if err != nil {
			t.Fatal(err)
		}
		return got[0]
	}
	if r := publish(); r.Code != "message_too_large" {
		t.Errorf("%+v", r)
	}
	limits.MaxMessageBytes = 2000
	b.SetLimits(limits)
	if r := publish(); !r.OK {
		t.Errorf("%+v", r)
	}
}
