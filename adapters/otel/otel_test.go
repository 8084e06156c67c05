package otel_test

import (
	"context"
	"errors"
	"testing"

	"github.com/gmq/gmq/adapters/otel"
	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/client/gmqtest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	api "go.opentelemetry.io/otel/trace"
)

// traced is a client of a real server, and what is traced of it.
func traced(t *testing.T, opts ...otel.Option) (*gmq.Client, *otel.Tracing, *tracetest.SpanRecorder, *trace.TracerProvider) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	return gmqtest.NewServer(t).Client(t), otel.New(append(opts, otel.Provider(provider))...), spans, provider
}

// work handles one message with handler and waits until the client is done with it.
func work(t *testing.T, tracing *otel.Tracing, q *gmq.Queue, handler gmq.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	traced := tracing.Handler(handler)
	err := q.Work(ctx, 1, func(ctx context.Context, m *gmq.Message) error {
		defer cancel()
		return traced(ctx, m)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func attributes(s trace.ReadOnlySpan) map[string]attribute.Value {
	all := map[string]attribute.Value{}
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value
	}
	return all
}

func want(t *testing.T, s trace.ReadOnlySpan, values map[string]string) {
	t.Helper()
	all := attributes(s)
	for key, value := range values {
		if got := all[key].String(); got != value {
			t.Errorf("%s: %s is %q, not %q", s.Name(), key, got, value)
		}
	}
}

func TestPublishAndProcessAreLinked(t *testing.T) {
	client, tracing, spans, provider := traced(t)
	q := client.Queue("emails")
	member, err := baggage.NewMember("tenant", "acme")
	if err != nil {
		t.Fatal(err)
	}
	bag, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	ctx, request := provider.Tracer("test").Start(baggage.ContextWithBaggage(t.Context(), bag), "request")
	own := map[string]string{"mine": "1"}
	if _, err := tracing.Send(ctx, q, "hello", own, gmq.Key("ann")); err != nil {
		t.Fatal(err)
	}
	request.End()
	if len(own) != 1 {
		t.Errorf("the caller's headers were changed: %v", own)
	}
	work(t, tracing, q, func(ctx context.Context, m *gmq.Message) error {
		if m.Headers["mine"] != "1" || m.Headers["traceparent"] == "" {
			t.Errorf("headers: %v", m.Headers)
		}
		if got := baggage.FromContext(ctx).Member("tenant").Value(); got != "acme" {
			t.Errorf("baggage: %q", got)
		}
		if !api.SpanContextFromContext(ctx).IsValid() {
			t.Error("the handler has no span")
		}
		return nil
	})

	ended := spans.Ended()
	if len(ended) != 3 {
		t.Fatalf("%d spans", len(ended))
	}
	send, process := ended[0], ended[2]
	if send.Name() != "send emails" || send.SpanKind() != api.SpanKindProducer || send.Parent().SpanID() != request.SpanContext().SpanID() {
		t.Errorf("send: %s, %v, parent %v", send.Name(), send.SpanKind(), send.Parent())
	}
	if process.Name() != "process emails" || process.SpanKind() != api.SpanKindConsumer || process.Parent().IsValid() {
		t.Errorf("process: %s, %v, parent %v", process.Name(), process.SpanKind(), process.Parent())
	}
	if links := process.Links(); len(links) != 1 || links[0].SpanContext.SpanID() != send.SpanContext().SpanID() || links[0].SpanContext.TraceID() != send.SpanContext().TraceID() {
		t.Errorf("links: %v", links)
	}
	both := map[string]string{"messaging.system": "gmq", "messaging.destination.name": "emails", "messaging.message.id": "1"}
	want(t, send, both)
	want(t, process, both)
	want(t, send, map[string]string{"messaging.operation.type": "send", "messaging.operation.name": "send", "messaging.gmq.message.stored": "memory"})
	want(t, process, map[string]string{"messaging.operation.type": "process", "messaging.operation.name": "process",
		"messaging.gmq.message.attempt": "1", "messaging.gmq.message.key": "ann", "messaging.message.body.size": "7"})
}

func TestChildSpans(t *testing.T) {
	client, tracing, spans, _ := traced(t, otel.ChildSpans())
	if _, err := tracing.Send(t.Context(), client.Queue("q"), 1, nil); err != nil {
		t.Fatal(err)
	}
	work(t, tracing, client.Queue("q"), func(context.Context, *gmq.Message) error { return nil })
	ended := spans.Ended()
	if len(ended) != 2 || ended[1].Parent().SpanID() != ended[0].SpanContext().SpanID() {
		t.Errorf("spans: %v", ended)
	}
}

func TestErrors(t *testing.T) {
	client, tracing, spans, _ := traced(t)
	q := client.Queue("small")
	if err := client.CreateQueue(t.Context(), "small", gmq.Settings{MaxMessages: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := tracing.Send(t.Context(), q, 1, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := tracing.Send(t.Context(), q, 2, nil); !errors.Is(err, gmq.ErrQueueFull) {
		t.Fatal(err)
	}
	work(t, tracing, q, func(context.Context, *gmq.Message) error { return gmq.Reject(errors.New("poison")) })
	work(t, tracing, client.Queue("small.dlq"), func(context.Context, *gmq.Message) error { panic("oh") })
	ended := spans.Ended()
	if len(ended) != 4 {
		t.Fatalf("%d spans", len(ended))
	}
	for i, says := range []string{"", "queue_full", "poison", "panic: oh"} {
		s := ended[i].Status()
		if says == "" && s.Code == codes.Unset {
			continue
		}
		if s.Code != codes.Error || i > 1 && s.Description != says {
			t.Errorf("span %d: %v, wanted %q", i, s, says)
		}
	}
	want(t, ended[1], map[string]string{"error.type": "queue_full"})
}

func TestTopics(t *testing.T) {
	client, tracing, spans, _ := traced(t)
	if err := client.CreateQueue(t.Context(), "copies", gmq.Settings{}); err != nil {
		t.Fatal(err)
	}
	if err := client.Queue("copies").Bind(t.Context(), "files.>"); err != nil {
		t.Fatal(err)
	}
	if _, err := tracing.Send(t.Context(), client.Topic("files.added"), 1, nil); err != nil {
		t.Fatal(err)
	}
	work(t, tracing, client.Queue("copies"), func(context.Context, *gmq.Message) error { return nil })
	ended := spans.Ended()
	if len(ended) != 2 || len(ended[1].Links()) != 1 {
		t.Fatalf("spans: %v", ended)
	}
	want(t, ended[0], map[string]string{"messaging.destination.name": "files.added", "messaging.gmq.topic.queues": "1"})
	want(t, ended[1], map[string]string{"messaging.destination.name": "copies"})
}
