package broker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// crowd is two clients of the first node; 200 messages are on their way to the slow one, which reads none, and they are more than it may carry.
func (ns *nodes) crowd() (slow, quick *peer) {
	slow, quick = ns.peer(0), ns.peer(0)
	body := strings.Repeat("x", 10_000)
	for range 200 {
		quick.send(fmt.Sprintf(`{"op":"publish","quiet":true,"queue":"q","body":"%s"}`, body))
	}
	slow.send(`{"op":"subscribe","quiet":true,"queue":"q","credit":1000}`)
	synctest.Wait()
	return slow, quick
}

// TestDrainWithASlowClient: what a slow client of a node that is being shut down has asked for is answered when it has read what was there.
func TestDrainWithASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNodes(t, 2, nil)
		defer ns.close()
		ns.leadAll(1, 1)
		slow, quick := ns.crowd()
		slow.send(`{"op":"receive","id":2,"queue":"q"}`)
		synctest.Wait()
		drained := make(chan error, 1)
		go func() { drained <- ns.brokers[0].Drain(t.Context()) }()
		synctest.Wait()
		answered := 0
		for got := slow.take(); len(got) > 0; got = slow.take() {
			for _, line := range got {
				if strings.Contains(line, `"id":2`) {
					answered++
				}
			}
		}
		if answered != 1 {
			t.Fatalf("the receive was answered %d times", answered)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		slow.s.Close()
		quick.s.Close()
	})
}
