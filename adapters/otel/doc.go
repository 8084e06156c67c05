// Package otel traces messages of GMQ with OpenTelemetry, from the publish to the handler.
//
// It owns the spans and what is in them, by OpenTelemetry's semantic conventions for messaging, and how
// a trace travels: in the headers of the message, traceparent as a rule. It knows the client and nothing
// of the server, which does not look into headers.
//
//	tracing := otel.New()
//	tracing.Send(ctx, client.Queue("emails"), mail, nil)
//	client.Queue("emails").Work(ctx, 8, tracing.Handler(func(ctx context.Context, m *gmq.Message) error { … }))
//
// A publish is a span of kind producer. The work on a message is a span of kind consumer, the root of a
// trace of its own with a link to the publish: a message may lie for days, come again, and go to several
// queues, and a trace that waits for all of that never ends.
package otel
