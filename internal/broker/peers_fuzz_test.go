package broker

import (
	"bytes"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/queue"
	"github.com/gmq/gmq/wire"
)

// workFrom is the works that lines make, as an Intake makes them.
func workFrom(t testing.TB, lines ...string) *work {
	w := &work{}
	dec, in := wire.NewDecoder(1<<20), &Intake{s: &Session{b: &Broker{}}}
	var r wire.Request
	for _, l := range lines {
		if err := dec.Decode([]byte(l), &r); err != nil {
			t.Fatal(l, err)
		}
		in.s.b.shards[in.shardOf(r.Queue)] = &shard{}
		in.open[in.shardOf(r.Queue)] = w
		switch r.Op {
		case wire.OpPublish:
			in.publish(&r)
		case wire.OpAck, wire.OpNack, wire.OpExtend:
			in.ack(&r)
		}
	}
	return w
}

func works(t testing.TB) []*work {
	return []*work{
		workFrom(t, `{"op":"publish","queue":"q","body":1}`),
		workFrom(t, `{"op":"publish","id":"x","queue":"q","messages":[{"body":1,"key":"k"},{"body":"abc","headers":{"a":"b"},"dedup_id":"d"}],"stored":"disk"}`,
			`{"op":"publish","queue":"q","body":2,"create":false,"quiet":true}`, `{"op":"ack","id":7,"queue":"q","seq":[1,2],"receipt":["1.2.3","1.2.4"]}`,
			`{"op":"nack","id":8,"queue":"q","seq":1,"delay":"5s","dead":true,"count":false,"reason":"why"}`, `{"op":"extend","queue":"q","seq":9,"lease":"1m"}`),
		{control: &control{op: wire.OpReceive, name: []byte("q"), max: 10, wait: 5e9, lease: 1e9, create: true, auto: true}},
		{control: &control{op: wire.OpQueueCreate, name: []byte("q"), set: wire.FieldMaxMessages, settings: wire.Settings{MaxMessages: 7, Storage: []byte("file")}}},
		{control: &control{op: wire.OpQueueRedrive, name: []byte("q.dlq"), to: []byte("r"), max: 5}},
		{control: &control{op: wire.OpQueueBind, name: []byte("q"), topic: []byte("a.*")}},
		{control: &control{op: wire.OpSubscribe, name: []byte("q"), max: 5, sub: 3}},
	}
}

// TestWorksTravel: what is read is what was written, but for the ids.
func TestWorksTravel(t *testing.T) {
	for i, w := range works(t) {
		m := appendWork(nil, w)
		got := &work{}
		if !readWork(&reader{b: m}, got, 5) {
			t.Fatalf("work %d cannot be read", i)
		}
		if again := appendWork(nil, got); !bytes.Equal(again, m) {
			t.Errorf("work %d:\n%x\n%x", i, m, again)
		}
		for k := range len(m) {
			if readWork(&reader{b: m[:k]}, &work{}, 5) {
				t.Errorf("work %d: %d bytes of %d are taken for the whole", i, k, len(m))
			}
		}
	}
}

// FuzzWork: no message makes a work that a shard could stumble over.
func FuzzWork(f *testing.F) {
	for _, w := range works(f) {
		f.Add(appendWork(nil, w))
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		w := &work{}
		if !readWork(&reader{b: m}, w, 1) {
			return
		}
		for i := range w.pubs {
			off := int(w.pubs[i].at)
			for range w.pubs[i].n {
				payload, next := journal.NextRecord(w.batch.Data, off)
				queue.Address(payload, 1, 1)
				off = next
			}
			w.str(w.pubs[i].id)
			w.str(w.pubs[i].name)
		}
		for i := range w.acks {
			a := &w.acks[i]
			if int(a.to) > len(w.seqs) || len(w.receipts) != len(w.seqs) || a.from > a.to || a.delay < 0 {
				t.Errorf("ack %+v of %d", a, len(w.seqs))
			}
		}
	})
}

type nowhere struct{}

func (nowhere) Send(_, _ []byte) {}

// FuzzMessages: whatever another node says, nothing stumbles.
func FuzzMessages(f *testing.F) {
	open := appendTextOf(appendTextOf(appendUvarint([]byte{sayOpen}, 1), "there"), "me")
	f.Add([]byte{sayTaken, 1, 5}, open, true)
	f.Add(append(append([]byte{sayWork, 1, 0, 1, 3, 1}, appendWork(nil, works(f)[0])...), 0), open, true)
	f.Add([]byte{sayClaim, 1, 1, 1, 'a', 1, 0, 0}, []byte{sayGo, 1, 0}, true)
	f.Add([]byte{sayClaim, 1}, []byte{sayGo, 1, 0}, true)
	f.Add([]byte{sayAsk, 1, askLook}, appendUvarint(appendTextOf([]byte{sayAsk, 1, askConsumers}, "q"), 5), true)
	f.Add([]byte{sayOutput, 1}, []byte(`{"id":12,"ok":true}`), false)
	f.Add([]byte{sayClaimed, 1, 3, 0}, []byte{sayPublished, 1}, false)
	budget := journal.NewBudget(1 << 20)
	b, err := Start(Options{
		ID: 1, Peers: others{[]uint64{2}}, Limits: Limits{MaxQueues: 9, MaxInFlight: 9, MaxMessageBytes: 1 << 20, AutoCreate: true, Defaults: queue.Settings{Storage: "memory", Lease: 1e9}},
		Storages: []Storage{{Name: "memory", Stored: "memory", Open: func(_ int, wake func()) journal.Journal { return journal.NewMemory(budget, wake) }}},
		Fail:     func(err error) { f.Error(err) },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close() })
	f.Fuzz(func(t *testing.T, first, second []byte, guest bool) {
		if guest {
			g := b.Accept(2, nowhere{})
			g.Receive(first)
			g.Receive(second)
			g.Close()
			return
		}
		c := b.LineUp(2, nowhere{})
		s := b.NewSession("test")
		s.route.mu.Lock()
		s.route.links = append(s.route.links, c.open(s.route))
		s.route.mu.Unlock()
		c.Receive(first)
		c.Receive(append([]byte{sayOutput, 1}, second...))
		s.Close()
		c.Close()
	})
}
