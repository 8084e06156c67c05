package auth_test

import (
	"context"
	"testing"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/test/harness"
)

// Users who share a server ask and are answered, and hear the answers to nobody else.
func TestRepliesAreOnesOwn(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "")
	add(t, s, admin, "ann", "publish:work consume:gmq-reply.ann.>", "")
	bob := add(t, s, admin, "bob", "publish:work consume:gmq-reply.bob.>", "")
	worker := add(t, s, admin, "worker", "consume:work publish:gmq-reply.>", "")
	bob.Fails("forbidden", `{"op":"subscribe","topic":"gmq-reply.>"}`)
	bob.Fails("forbidden", `{"op":"subscribe","topic":"gmq-reply.ann.>"}`)
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	c, err := gmq.Dial(ctx, s.Addr, gmq.Login("ann", "pencil-ann"), gmq.Lazy())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		m := worker.OK(`{"op":"receive","queue":"work","wait":"10s","ack":"auto"}`).Each("messages")
		if len(m) != 1 {
			t.Errorf("the worker has got %v", m)
			return
		}
		worker.OK(`{"op":"publish","topic":"%s","body":"answer"}`, m[0].At("headers").Text("reply_to"))
	}()
	m, err := c.Queue("work").Request(ctx, "question")
	if err != nil {
		t.Fatal(err)
	}
	if m.Text() != "answer" {
		t.Errorf("the reply is %q", m.Text())
	}
	<-answered
}

// Who has logged in is told who he is by any hello, in whatever way he has come in.
func TestPlainHelloSaysWho(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "")
	if l := admin.OK(`{"op":"hello","client":"again"}`); l.Text("user") != "admin" {
		t.Errorf("a hello after the login: %s", l.Raw)
	}
	if l := s.Dial(t).OK(`{"op":"hello"}`); l.Has("user") {
		t.Errorf("a hello of nobody: %s", l.Raw)
	}
}

// Nobody locks everybody out: R116.
func TestLastAdminStays(t *testing.T) {
	t.Parallel()
	s, admin := start(t, "")
	admin.Fails("bad_request", `{"op":"user.remove","user":"admin"}`)
	admin.Fails("bad_request", `{"op":"user.grant","user":"admin","deny":["*:>"]}`)
	admin.Fails("bad_request", `{"op":"user.grant","user":"admin","deny":["*:secret"]}`)
	admin.OK(`{"op":"user.grant","user":"admin","deny":["publish:secret"]}`)
	admin.OK(`{"op":"user.list"}`)
	admin.Fails("forbidden", `{"op":"publish","queue":"secret","body":1}`)
	eve := add(t, s, admin, "eve", "admin:>", "")
	eve.OK(`{"op":"user.remove","user":"admin"}`)
	eve.Fails("bad_request", `{"op":"user.remove","user":"eve"}`)
}
