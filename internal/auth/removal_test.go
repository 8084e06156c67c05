package auth

import (
	"strings"
	"testing"

	"github.com/gmq/gmq/wire"
)

// The removal of a user is several documents. Wherever it is cut, nobody gets in by what is left, the same request goes on with
// it, and who is given the name next does not get the tokens of the one before.
func TestInterruptedRemoval(t *testing.T) {
	for room := range 4 {
		for _, again := range []string{`{"op":"user.remove","user":"ann"}`, `{"op":"user.add","user":"ann","allow":["*:>"]}`} {
			r := newRig(t, true, Limits{})
			r.must(`{"op":"user.add","user":"ann"}`)
			r.must(`{"op":"user.add","user":"bob"}`)
			var tokens []string
			for _, name := range []string{"a", "b", "c"} {
				_, text, _ := strings.Cut(r.must(`{"op":"token.add","name":"`+name+`","user":"ann"}`), `"token":"`)
				tokens = append(tokens, strings.TrimSuffix(text, `"}`))
			}
			r.must(`{"op":"token.add","name":"d","user":"bob"}`)
			r.full, r.room = wire.Errorf(wire.CodeDiskFull, "full"), room
			r.want("cut", r.do(`{"op":"user.remove","user":"ann"}`), "disk_full")
			r.full = nil
			r.start(true, Limits{})
			if room == 0 {
				r.must(`{"op":"user.remove","user":"ann"}`)
			}
			if room > 0 {
				for _, text := range tokens {
					r.want("in between", r.login(r.visit(far), `{"op":"hello","token":"`+text+`"}`), "unauthenticated")
				}
				r.must(again)
			}
			for _, name := range []string{"a", "b", "c"} {
				if r.docs[tokenPrefix+name] != nil {
					t.Errorf("cut after %d, then %s: the token %s is still there", room, again, name)
				}
			}
			if r.docs[tokenPrefix+"d"] == nil {
				t.Error("the token of another is gone")
			}
		}
	}
}
