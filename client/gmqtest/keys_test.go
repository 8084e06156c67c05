package gmqtest_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/client/gmqtest"
)

// keyed are the messages of some keys, and how far each of them is.
type keyed struct {
	t    *testing.T
	keys int
	each int

	mu      sync.Mutex // guards the rest
	current []int      // by key: the message that was delivered last, from 1
	acked   []bool     // by key: an ack of it has been sent
	failed  int
	settled int
}

// delivered notes a delivery, and says what is to become of it: one in ten fails.
func (k *keyed) delivered(m *gmq.Message) (fails bool) {
	var key, number int
	if _, err := fmt.Sscanf(m.Text(), "%d of %d", &number, &key); err != nil || m.Key != fmt.Sprint("key ", key) {
		k.t.Errorf("%q of key %q: %v", m.Text(), m.Key, err)
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	last, acked := k.current[key], k.acked[key]
	if next := number == last+1; next != acked || !next && number != last {
		k.t.Errorf("key %d: message %d is delivered, attempt %d, after message %d; that is acked: %v", key, number, m.Attempt, last, acked)
	}
	// By chance, but the same each time, whoever gets it.
	fails = rand.New(rand.NewPCG(uint64(number), uint64(key*100+m.Attempt))).IntN(10) == 0
	if k.current[key], k.acked[key] = number, !fails; fails {
		k.failed++
	} else {
		k.settled++
	}
	return fails
}

// workOff receives until there is nothing more. What fails is nacked, or just not acked.
func (k *keyed) workOff(q *gmq.Queue) {
	ctx := k.t.Context()
	for {
		msgs, err := q.Receive(ctx, 20, 0)
		if err != nil {
			k.t.Error(err)
		}
		if len(msgs) == 0 || err != nil {
			return
		}
		var acks []gmq.Acking
		for _, m := range msgs {
			if !k.delivered(m) {
				acks = append(acks, m.AckAsync())
			} else if m.Seq%2 == 0 {
				if err := m.Nack(ctx, gmq.Reason("fails")); err != nil {
					k.t.Error(err)
				}
			}
		}
		for _, a := range acks {
			if err := a.Wait(ctx); err != nil {
				k.t.Error(err)
			}
		}
	}
}

func (k *keyed) publish(q *gmq.Queue) {
	for number := 1; number <= k.each; number++ {
		var batch []gmq.Msg
		for key := range k.keys {
			batch = append(batch, gmq.Msg{Body: fmt.Sprintf("%d of %d", number, key), Options: []gmq.PublishOption{gmq.Key(fmt.Sprint("key ", key))}})
		}
		if _, err := q.SendBatch(k.t.Context(), batch); err != nil {
			k.t.Fatal(err)
		}
	}
}

// A thousand keys are worked off by 16 consumers, each with a connection, that fail one time in ten: in order within each key.
func TestThousandKeys(t *testing.T) {
	k := &keyed{t: t, keys: 1000, each: 100}
	if testing.Short() {
		k.keys, k.each = 200, 20
	}
	k.current, k.acked = make([]int, k.keys), make([]bool, k.keys)
	for key := range k.acked {
		k.acked[key] = true
	}
	srv := gmqtest.NewServer(t)
	c := srv.Client(t)
	k.publish(c.Queue("work"))
	var clients []*gmq.Client
	for range 16 {
		clients = append(clients, srv.Client(t))
	}
	// Time stands still while they work, so no lease ends of which somebody thinks that he has it.
	for rounds := 0; k.settled < k.keys*k.each && !t.Failed(); rounds++ {
		var all sync.WaitGroup
		for _, c := range clients {
			all.Go(func() { k.workOff(c.Queue("work")) })
		}
		all.Wait()
		srv.Advance(time.Minute)     // what was not acked comes back
		srv.Advance(5 * time.Minute) // and has waited long enough, however often it has failed
		if rounds > 50*k.each {
			t.Fatalf("after %d rounds %d are settled", rounds, k.settled)
		}
	}
	info, err := c.QueueInfo(t.Context(), "work")
	if n := k.keys * k.each; err != nil || info.Counts.Acked != uint64(n) || info.Counts.Published != uint64(n) {
		t.Errorf("%+v, %v", info.Counts, err)
	}
	t.Logf("%d deliveries failed", k.failed)
}
