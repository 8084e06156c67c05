package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"slices"
)

const (
	window = 256 // publishes on their way at a time
	credit = 100
	batch  = 50 // settled at a time at the most

	shuttingDown = "shutting_down" // the only refusal there may be where a ledger says nothing else
)

// incoming is any line of the server.
type incoming struct {
	Op          string
	ID          int
	OK          bool
	Seq         uint64
	Attempt     int
	Receipt     string
	Redelivered bool
	Body        json.RawMessage
	Error       *struct {
		Code, Message string
		Seqs          []uint64
	}
}

// lines calls f for every line until the connection ends or f has had enough. What it read may be half a line
// when the server ends, which is none; idle is true where no more has arrived yet.
func lines(nc net.Conn, l *Ledger, f func(in *incoming, idle bool) bool) {
	r := bufio.NewReaderSize(nc, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			if err == bufio.ErrBufferFull {
				l.Fault("the server sent a line of more than %d bytes: %.200q", r.Size(), line)
			}
			return
		}
		var in incoming
		if err := json.Unmarshal(line, &in); err != nil {
			l.Fault("the server sent %.200q: %v", line, err)
			return
		}
		if !f(&in, r.Buffered() == 0) {
			return
		}
	}
}

// Publish is one publisher: it publishes each message once, and goes on with the next after the server ended.
// It returns when the ledger is stopped and all that was published is answered.
func Publish(lv *Lives, l *Ledger, p int) {
	for life, nc, ok := lv.dial(0); ok; life, nc, ok = lv.dial(life) {
		if !publishOn(nc, life, l, p) {
			return
		}
	}
}

// publishOn is false when there is nothing more to publish and all of it was answered.
func publishOn(nc net.Conn, life int, l *Ledger, p int) (more bool) {
	dead, tokens := make(chan struct{}), make(chan struct{}, window)
	go func() {
		defer close(dead)
		defer nc.Close()
		lines(nc, l, func(in *incoming, _ bool) bool {
			switch {
			case in.OK:
				l.confirm(life, p, in.ID, in.Seq)
			case in.Op == "closing":
				return true
			case in.Error != nil && slices.Contains(l.refusals, in.Error.Code):
				l.refuse(life, p, in.ID)
			default:
				l.faultIn(life, "publish %d/%d was refused: %+v", p, in.ID, in.Error)
			}
			select {
			case <-tokens:
				return true
			default: // of nothing that is on its way
				l.faultIn(life, "publisher %d was sent a reply too many, to %d", p, in.ID)
				return false
			}
		})
	}()
	defer func() { nc.Close(); <-dead }()
	w := bufio.NewWriterSize(nc, 8<<10)
	room := func() bool {
		select {
		case tokens <- struct{}{}:
			return true
		default:
		}
		if w.Flush() != nil {
			return false
		}
		select {
		case tokens <- struct{}{}:
			return true
		case <-dead:
			return false
		}
	}
	for {
		if !room() {
			return true
		}
		n, ok := l.next(p)
		if !ok {
			<-tokens
			break
		}
		fmt.Fprintf(w, `{"op":"publish","id":%d,"queue":"%s","body":%s}`+"\n", n, l.Queue, l.body(p, n))
	}
	for range window { // all of it answered
		if !room() {
			return false
		}
	}
	return false
}
