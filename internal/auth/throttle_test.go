package auth

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestThrottle(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	th := newThrottle(func() time.Time { return now })
	for range freeFailures {
		if w := th.waitAt("ann", "a", "a"); w != 0 {
			t.Fatalf("has to wait %v", w)
		}
		th.failedAt("ann", "a", "a")
	}
	want := firstWait
	for range 12 {
		th.failedAt("ann", "a", "a")
		if w := th.waitAt("ann", "a", "a"); w != want {
			t.Errorf("has to wait %v, should be %v", w, want)
		}
		now = now.Add(want)
		if w := th.waitAt("ann", "a", "a"); w != 0 {
			t.Errorf("has waited, and must again, %v", w)
		}
		want = min(2*want, longestWait)
	}
	th.failedAt("ann", "a", "a")
	if th.waitAt("ann", "b", "b") != longestWait || th.waitAt("bob", "a", "a") != longestWait || th.waitAt("bob", "b", "b") != 0 {
		t.Error("slowed down are the user everywhere and the address for everybody, and nobody else")
	}
	// The user is known at c: what happens to the name elsewhere does not count there.
	th.succeeded("ann", "c")
	if th.waitAt("ann", "c", "c") != 0 {
		t.Error("a user is locked out where he is known")
	}
	for range freeFailures + 1 {
		th.failedAt("ann", "c", "c")
	}
	if th.waitAt("ann", "c", "c") != firstWait || th.waitAt("bob", "c", "c") != 0 {
		t.Error("failures where a user is known count for him there")
	}
	now = now.Add(forgetAfter)
	if th.waitAt("ann", "a", "a") != 0 {
		t.Error("it is never forgotten")
	}
	th.failedAt("ann", "a", "a")
	if th.waitAt("ann", "a", "a") != 0 {
		t.Error("what was forgotten counts")
	}
}

// The table is bounded, whoever tries whatever; who was slowed down stays so.
func TestThrottleIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	th := newThrottle(func() time.Time { return now })
	for range freeFailures + 8 {
		th.failedAt("ann", "", "")
	}
	for i := range maxSlowed + 1000 {
		th.failedAt(fmt.Sprint(i), "", "")
		th.succeeded(fmt.Sprint(i), "x")
	}
	if len(th.slowed) > maxSlowed || len(th.trusted) > maxTrusted {
		t.Errorf("%d are slowed down, %d trusted", len(th.slowed), len(th.trusted))
	}
	if th.waitAt("ann", "", "") == 0 {
		t.Error("a flood of other names sets a name free")
	}
	if th.waitAt("somebody else", "", "") == 0 {
		t.Error("who does not fit in the table is not slowed down at all")
	}
	now = now.Add(forgetHasty)
	if th.failedAt("one more", "", ""); len(th.slowed) > 10 {
		t.Errorf("%d are there still", len(th.slowed))
	}
}

// Over the wire: a name that is guessed at is slowed down, whether it is there or not, and loopback is no address.
func TestGuessing(t *testing.T) {
	r := newRig(t, true, Limits{})
	r.must(`{"op":"user.add","user":"ann","password":"pencil"}`)
	known := r.visit("192.0.2.99:1")
	r.want("known", r.login(known, hello("ann", "pencil")), "")
	for i := range 30 {
		from := fmt.Sprintf("192.0.2.%d:1", i)
		for _, user := range []string{"ann", "eve"} {
			want := "unauthenticated"
			if i > freeFailures {
				want = "rate_limited"
			}
			r.want(fmt.Sprint(i, user), r.login(r.visit(from), hello(user, "guess")), want)
		}
		r.want("exchange", exchange(t, r.visit(from), "eva", "x"), map[bool]string{false: "unauthenticated", true: "rate_limited"}[i > freeFailures])
	}
	r.want("right, from elsewhere", r.login(r.visit("192.0.2.200:1"), hello("ann", "pencil")), "rate_limited")
	r.want("where she is known", r.login(r.visit("192.0.2.99:7"), hello("ann", "pencil")), "")
	for i := range 50 {
		r.want("loopback", r.login(r.visit(local), hello(fmt.Sprint("u", i), "x")), "unauthenticated")
	}
	for i := range 50 {
		want := "unauthenticated"
		if i > freeFailures {
			want = "rate_limited"
		}
		r.want("token", r.login(r.visit("[2001:db8::"+fmt.Sprint(i+1)+"]:1"), `{"op":"hello","token":"x"}`), want)
	}
}

// A flood of failures elsewhere fills the table; a user where he is known is not held up by that.
func TestKnownUsersInAFlood(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	th := newThrottle(func() time.Time { return now })
	th.succeeded("ann", "a")
	for i := range maxSlowed + 100 {
		th.failedAt(fmt.Sprint(i), "b", "")
	}
	if th.waitAt("somebody else", "b", "") == 0 {
		t.Error("the table is not full")
	}
	if w := th.waitAt("ann", "a", "a"); w != 0 {
		t.Errorf("a user has to wait %v where he is known", w)
	}
	for range freeFailures + 1 { // and is still slowed down there by what he does himself
		th.failedAt("ann", "a", "a")
	}
	if w := th.waitAt("ann", "a", "a"); w != firstWait {
		t.Errorf("has to wait %v, should be %v", w, firstWait)
	}
	now = now.Add(trustFor)
	for range freeFailures + 1 {
		th.failedAt("ann", "c", "")
	}
	if th.waitAt("ann", "a", "") == 0 {
		t.Error("trust does not end")
	}
}

// Guesses that wait together to be hashed do not all count as the first ones.
func TestGuessesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, Limits{})
		r.must(`{"op":"user.add","user":"ann","password":"pencil"}`)
		h := r.s.hashers
		for range cap(h.slots) {
			h.slots <- struct{}{} // somebody else is being hashed
		}
		guesses := cap(h.slots) * maxWaiting / 2
		codes := make(chan string, guesses)
		for i := range guesses {
			v := r.visit(fmt.Sprintf("192.0.%d.%d:1", i>>8, i&255))
			go func() { codes <- r.login(v, hello("ann", "guess")) }()
		}
		synctest.Wait()
		for range cap(h.slots) {
			<-h.slots
		}
		looked := 0
		for range guesses {
			if <-codes == "unauthenticated" {
				looked++
			}
		}
		if most := freeFailures + cap(h.slots); looked > most {
			t.Errorf("%d of %d guesses were looked at, should be %d at most", looked, guesses, most)
		}
	})
}
