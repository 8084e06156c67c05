// Package load is clients that publish and consume as fast as they can while the server they
// talk to dies and comes back, and the ledger of what it promised them: what was confirmed
// must be there, what was acked must not come again, and every body is what was published. It
// knows nothing of how the server is ended; the tests that end it bring that along.
package load

import (
	"context"
	"net"
	"sync"
	"time"
)

// Lives tells clients where the server is: every start is a life, counted from 1.
type Lives struct {
	ctx     context.Context // ends with the test
	mu      sync.Mutex      // guards the following
	changed *sync.Cond
	n       int
	addr    string
}

// NewLives makes lives that end with the context.
func NewLives(ctx context.Context) *Lives {
	l := &Lives{ctx: ctx}
	l.changed = sync.NewCond(&l.mu)
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})
	return l
}

// Begin says that the server serves again, at that address, and gives the number of this life.
func (l *Lives) Begin(addr string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	l.addr = addr
	l.changed.Broadcast()
	return l.n
}

// Here is the life of now alone, for clients that leave with the context.
func (l *Lives) Here(ctx context.Context) *Lives {
	l.mu.Lock()
	defer l.mu.Unlock()
	here := NewLives(ctx)
	here.n, here.addr = l.n, l.addr
	return here
}

// dial connects in a life after the given one, as soon as there is one. It is false at the end.
func (l *Lives) dial(after int) (life int, nc net.Conn, ok bool) {
	for l.ctx.Err() == nil {
		l.mu.Lock()
		for l.n <= after && l.ctx.Err() == nil {
			l.changed.Wait()
		}
		life, addr := l.n, l.addr
		l.mu.Unlock()
		if l.ctx.Err() != nil {
			break
		}
		if nc, err := net.DialTimeout("tcp", addr, 5*time.Second); err == nil {
			context.AfterFunc(l.ctx, func() { nc.Close() })
			return life, nc, true
		}
		after = life // ended in between
	}
	return 0, nil, false
}
