package auth_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/test/harness"
)

const (
	slowConnections = 500
	loginsASecond   = 200
	goodMessages    = 20_000
	goodWindow      = 100
)

// Five hundred slow connections and two hundred bad logins a second: a client that behaves does all of its work, the limits hold, and
// what the server keeps for the others is little. How fast it was is told and not judged.
func TestAbuse(t *testing.T) {
	s, admin := start(t, "limits: {max_connections: 2000}\n")
	good := add(t, s, admin, "good", "publish:work consume:work", "")
	work(t, good) // so that neither run is the first
	alone := work(t, good)
	before, _ := s.Memory()

	stop := make(chan struct{})
	var abuse sync.WaitGroup
	var slow, answered, odd atomic.Int64
	for range slowConnections {
		abuse.Go(func() { dribble(s.Addr, stop, &slow) })
	}
	abuse.Go(func() {
		tick := time.NewTicker(time.Second / loginsASecond)
		defer tick.Stop()
		var logins sync.WaitGroup
		defer logins.Wait()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				user := []string{"good", "admin", fmt.Sprint("nobody-", i)}[i%3]
				logins.Go(func() { guess(s.Addr, user, &answered, &odd) })
			}
		}
	})
	harness.Eventually(t, "the abuse has begun", func() bool { return slow.Load() >= slowConnections && answered.Load() >= loginsASecond/2 })
	began, from := time.Now(), answered.Load()
	var abused time.Duration
	rounds := 0
	for time.Since(began) < 3*time.Second { // long enough for some hundred guesses
		abused += work(t, good)
		rounds++
	}
	guesses := float64(answered.Load()-from) / time.Since(began).Seconds()
	now, peak := s.Memory()
	// Somebody whom nobody guesses at can be made, and log in, meanwhile: an exchange costs the server little.
	admin.OK(`{"op":"user.add","user":"fresh","password":"pencil-fresh"}`)
	fresh, err := gmq.Dial(t.Context(), s.Addr, gmq.Login("fresh", "pencil-fresh"))
	if err != nil {
		t.Error(err)
	} else {
		fresh.Close()
	}
	close(stop)
	abuse.Wait()

	rate := func(n int, d time.Duration) float64 { return float64(n*goodMessages) / d.Seconds() }
	t.Logf("alone %.0f messages a second, under abuse %.0f: %.0f %%; %.0f bad logins a second answered, %d slow connections at least; resident %d MiB before, %d MiB meanwhile, %d MiB at most",
		rate(1, alone), rate(rounds, abused), 100*rate(rounds, abused)/rate(1, alone), guesses, slowConnections, before>>20, now>>20, peak>>20)
	if odd.Load() != 0 {
		t.Errorf("%d bad logins were answered otherwise than as unauthenticated or rate_limited", odd.Load())
	}
	if answered.Load() < loginsASecond {
		t.Errorf("only %d bad logins: that was no abuse", answered.Load())
	}
	if grown := now - before; grown > 64<<20 {
		t.Errorf("the server has grown by %d MiB for those who have not logged in", grown>>20)
	}
}

// work publishes and consumes, and gives the time it took.
func work(t *testing.T, c *harness.Conn) time.Duration {
	t.Helper()
	began := time.Now()
	var batch strings.Builder
	for range goodWindow {
		batch.WriteString(`{"op":"publish","queue":"work","body":"0123456789012345678901234567890123456789"}` + "\n")
	}
	batch.WriteString(fmt.Sprintf(`{"op":"receive","queue":"work","max":%d,"ack":"auto"}`, goodWindow) + "\n")
	for range goodMessages / goodWindow {
		c.SendRaw([]byte(batch.String()))
		for range goodWindow + 1 {
			if l := c.Reply(); !l.Bool("ok") {
				t.Fatalf("the client that behaves is refused: %s", l.Raw)
			}
		}
	}
	return time.Since(began)
}

// dribble keeps a connection open as long as it may be, with a byte now and then, and opens the next one.
func dribble(addr string, stop <-chan struct{}, slow *atomic.Int64) {
	for counted := false; ; {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		if !counted {
			slow.Add(1)
			counted = true
		}
		tick := time.NewTicker(300 * time.Millisecond)
		for open := true; open; {
			select {
			case <-stop:
				tick.Stop()
				c.Close()
				return
			case <-tick.C:
				_, err := c.Write([]byte("{"))
				open = err == nil
			}
		}
		tick.Stop()
		c.Close()
	}
}

// guess tries a password that is wrong.
func guess(addr, user string, answered, odd *atomic.Int64) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(harness.Patience))
	fmt.Fprintf(c, "{\"op\":\"hello\",\"user\":%q,\"password\":\"guess\"}\n", user)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	answered.Add(1)
	if !strings.Contains(line, `"unauthenticated"`) && !strings.Contains(line, `"rate_limited"`) {
		odd.Add(1)
	}
}
