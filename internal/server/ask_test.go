package server_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/auth"
	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/server"
	"github.com/gmq/gmq/wire"
)

// lonely is a cluster of one.
type lonely struct{}

func (lonely) Do(r *wire.Request, dst []byte) ([]byte, *wire.Error) {
	return append(dst, `,"name":"`+r.Op.String()+`"`...), nil
}

// asker makes somebody who asks a server without a connection.
func asker(t *testing.T, b *broker.Broker, user string) func(line string) string {
	t.Helper()
	a := auth.New(auth.Options{Required: true, Put: b.PutDocument})
	b.WatchDocuments(auth.Prefix, func(name string, data []byte) {
		if err := a.Changed(name, data); err != nil {
			t.Error(err)
		}
	})
	s := server.New(server.Options{Broker: b, Log: slog.New(slog.DiscardHandler), Auth: a, Cluster: lonely{}})
	v, err := a.Arrive("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Leave)
	if user != "" {
		if _, _, err := v.Login(&wire.Request{Op: wire.OpHello, Set: wire.FieldUser | wire.FieldPassword, User: []byte(user), Password: []byte("adminpw")}); err != nil {
			t.Fatal(err)
		}
	}
	return func(line string) string {
		reply := s.Ask(t.Context(), v, "127.0.0.1:1", []byte(line))
		if !json.Valid(reply) {
			t.Errorf("%s: %q is no JSON", line, reply)
		}
		return string(reply)
	}
}

func TestAsk(t *testing.T) {
	b, _ := locked(t)
	ask, nobody := asker(t, b, "admin"), asker(t, b, "")
	for _, test := range []struct{ line, want string }{
		{`{"op":"publish","id":7,"queue":"q","body":{"n": 1.50}}`, `{"id":7,"ok":true,"seq":1,"stored":"memory"}`},
		{`{"op":"publish","queue":"q","body":2,"quiet":true}`, `{"ok":true,"seq":2,"stored":"memory"}`}, // who asks wants to know
		{`{"op":"queue.peek","queue":"q","limit":1}`, `"body":{"n": 1.50}`},
		{`{"op":"ack","queue":"q","seq":2}`, `"settled":1`},
		{`{"op":"user.add","user":"ann","password":"pw","allow":["publish:q"]}`, `{"ok":true}`},
		{`{"op":"user.list","prefix":"an"}`, `"user":"ann"`},
		{`{"op":"auth.check","user":"ann","verb":"publish","name":"q"}`, `"allowed":true`},
		{`{"op":"server.info"}`, `"ok":true`},
		{`{"op":"cluster.status"}`, `"name":"cluster.status"`},
		{`{"op":"cluster.remove","name":"n2"}`, `"name":"cluster.remove"`},
		{`{"op":"ping"}`, `{"ok":true}`},
		{`{"op":"receive","queue":"q"}`, `"code":"bad_request"`},
		{`{"op":"subscribe","queue":"q"}`, `"code":"bad_request"`},
		{`{"op":"hello","user":"admin","password":"adminpw"}`, `"code":"bad_request"`},
		{`{"op":"queue.info","queue":"none"}`, `"code":"not_found"`},
		{"{\"op\":\"ping\"}\n{\"op\":\"ping\"}", `"code":"bad_json"`},
		{``, `"code":"bad_json"`},
	} {
		if got := ask(test.line); !strings.Contains(got, test.want) {
			t.Errorf("%s: %s", test.line, got)
		}
	}
	for _, line := range []string{`{"op":"publish","queue":"q","body":1}`, `{"op":"user.list"}`, `{"op":"server.info"}`} {
		if got := nobody(line); !strings.Contains(got, `"code":"unauthenticated"`) {
			t.Errorf("%s by nobody: %s", line, got)
		}
	}
}

// Whoever does not wait for the answer learns that he knows nothing.
func TestAskNoLonger(t *testing.T) {
	b, _ := locked(t)
	s := server.New(server.Options{Broker: b, Log: slog.New(slog.DiscardHandler)})
	v, _ := auth.New(auth.Options{}).Arrive("127.0.0.1:1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := string(s.Ask(ctx, v, "x", []byte(`{"op":"publish","queue":"q","body":1}`)))
	if !strings.Contains(got, `"code":"unknown_outcome"`) && !strings.Contains(got, `"ok":true`) {
		t.Error(got)
	}
}
