package auth_test

import (
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// R104: dead letters go into a queue only by whoever may publish there; where he may not, every one of them stays where it is.
func TestRedriveToOthersQueues(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "")
	ann := add(t, s, admin, "ann", "manage:a.dlq publish:hers", "")
	bob := add(t, s, admin, "bob", "publish:a consume:a", "")
	for range 3 {
		bob.OK(`{"op":"publish","queue":"a","body":"secret"}`)
		l := bob.OK(`{"op":"receive","queue":"a"}`)
		bob.OK(`{"op":"nack","queue":"a","seq":%d,"dead":true}`, l.Each("messages")[0].Int("seq"))
	}
	admin.OK(`{"op":"queue.create","queue":"his"}`)
	admin.OK(`{"op":"queue.create","queue":"hers"}`)
	ready := func(queue string) int64 {
		return admin.OK(`{"op":"queue.info","queue":"%s"}`, queue).At("counts").Int("ready")
	}
	ann.Fails("forbidden", `{"op":"queue.redrive","queue":"a.dlq","to":"his"}`)
	ann.Fails("forbidden", `{"op":"queue.redrive","queue":"a.dlq"}`) // back to a
	bob.Fails("forbidden", `{"op":"queue.redrive","queue":"a.dlq"}`) // who may publish there, but not manage the dead letters
	if his, hers, a, dead := ready("his"), ready("hers"), ready("a"), ready("a.dlq"); his != 0 || hers != 0 || a != 0 || dead != 3 {
		t.Fatalf("his %d, hers %d, a %d, dead %d", his, hers, a, dead)
	}
	ann.OK(`{"op":"queue.redrive","queue":"a.dlq","to":"hers","max":2}`)
	harness.Eventually(t, "what may be moved is moved", func() bool { return ready("hers") == 2 })
	admin.OK(`{"op":"user.grant","user":"ann","allow":["publish:a"]}`)
	ann.OK(`{"op":"queue.redrive","queue":"a.dlq"}`)
	harness.Eventually(t, "the last is back", func() bool { return ready("a") == 1 && ready("a.dlq") == 0 })
}
