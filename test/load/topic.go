package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// A Talk is what is published to a topic, and who overhears it: a queue that is bound, and subscribers that are slower
// than the talk.
type Talk struct {
	Topic string // without its last word
	Bound string // the queue that is bound to it, made by whoever makes the talk

	mu        sync.Mutex // guards the following
	sent      int
	confirmed int
	ended     int // the latest life of which nothing counts any more
	heard     int
	dropped   int
	faults    []string
}

// Over is Ledger.Over.
func (k *Talk) Over(life int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = life
}

// Said tells how many messages were sent and confirmed, and how many of them subscribers have heard and been too slow for.
func (k *Talk) Said() (sent, confirmed, heard, dropped int, faults []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sent, k.confirmed, k.heard, k.dropped, k.faults
}

func (k *Talk) fault(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.faults) < 20 {
		k.faults = append(k.faults, k.Topic+": "+fmt.Sprintf(format, args...))
	}
}

const atOnce = 100 // messages of a talk on their way

// Chat publishes to the topic, a few at a time, until the lives end.
func Chat(lv *Lives, k *Talk) {
	pad := strings.Repeat("x", 8000) // so that it is soon more than a slow subscriber may have waiting
	for life, nc, ok := lv.dial(0); ok; life, nc, ok = lv.dial(life) {
		r := bufio.NewReader(nc)
		for n := 0; ; n++ {
			var b strings.Builder
			for i := range atOnce {
				fmt.Fprintf(&b, `{"op":"publish","id":%d,"topic":"%s.w%d","body":"%s"}`+"\n", n*atOnce+i, k.Topic, i, pad)
			}
			k.mu.Lock()
			k.sent += atOnce
			k.mu.Unlock()
			if _, err := nc.Write([]byte(b.String())); err != nil || !k.answers(r, life, atOnce) {
				break
			}
		}
		nc.Close()
	}
}

// answers reads so many replies; it is false where the connection ends before.
func (k *Talk) answers(r *bufio.Reader, life, n int) bool {
	for n > 0 {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return false
		}
		var in struct {
			OK     bool
			Op     string
			Queues int
			Error  struct{ Code string }
		}
		if err := json.Unmarshal(line, &in); err != nil {
			k.fault("the server sent %.200q: %v", line, err)
			return false
		}
		switch {
		case in.Op == "closing":
			continue
		case in.OK && in.Queues == 0:
			k.fault("a publish found no queue, and %s is bound: %s", k.Bound, line)
		case in.OK:
			k.mu.Lock()
			if life > k.ended {
				k.confirmed++
			}
			k.mu.Unlock()
		case in.Error.Code != shuttingDown && in.Error.Code != "disk_full":
			k.fault("a publish was refused: %s", line)
		}
		n--
	}
	return true
}

// Overhear subscribes to the topic and reads too slowly, until the lives end. What it does not hear it must be told of.
func Overhear(lv *Lives, k *Talk) {
	for life, nc, ok := lv.dial(0); ok; life, nc, ok = lv.dial(life) {
		k.overhear(nc)
	}
}

func (k *Talk) overhear(nc net.Conn) {
	defer nc.Close()
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetReadBuffer(16 << 10) // the kernel would else take megabytes off the server before it notices
	}
	fmt.Fprintf(nc, `{"op":"subscribe","topic":"%s.>","credit":1000,"ack":"auto"}`+"\n", k.Topic)
	r := bufio.NewReaderSize(nc, 4096)
	heard, dropped, last := 0, 0, 0
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return // half a line is none
		}
		var in struct {
			Op           string
			Seq, Dropped int
			Error        *struct{ Code string }
		}
		if err := json.Unmarshal(line, &in); err != nil {
			k.fault("the server sent %.200q: %v", line, err)
			return
		}
		if in.Error != nil && in.Error.Code != shuttingDown {
			k.fault("a subscribe was refused: %s", line)
		}
		if in.Op != "message" {
			continue
		}
		heard++
		dropped += in.Dropped
		// What publishes that are being stored are going to push out is passed over already, and told when it is gone. On
		// the other hand those that are told of may never have had a seq.
		if in.Seq <= last || in.Seq-heard-dropped > atOnce {
			k.fault("message %d comes after %d that were heard and %d that were said to be dropped", in.Seq, heard-1, dropped)
			return
		}
		last = in.Seq
		k.mu.Lock()
		k.heard, k.dropped = k.heard+1, k.dropped+in.Dropped
		k.mu.Unlock()
		if heard%10 == 0 {
			<-time.After(200 * time.Millisecond)
		}
	}
}
