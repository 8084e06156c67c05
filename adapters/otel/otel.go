package otel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	gmq "github.com/gmq/gmq/client"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/gmq/gmq/adapters/otel"

// Attributes of GMQ's own, beside those of the conventions.
const (
	attemptKey   = attribute.Key("messaging.gmq.message.attempt")
	keyKey       = attribute.Key("messaging.gmq.message.key")
	storedKey    = attribute.Key("messaging.gmq.message.stored")
	duplicateKey = attribute.Key("messaging.gmq.message.duplicate")
	queuesKey    = attribute.Key("messaging.gmq.topic.queues")
)

// A Tracing makes spans. It is safe for any number of goroutines.
type Tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	child      bool
}

// An Option changes how a Tracing is made.
type Option func(*config)

type config struct {
	provider   trace.TracerProvider
	propagator propagation.TextMapPropagator
	child      bool
}

// Provider is where spans go. Without it that is the global provider of OpenTelemetry.
func Provider(p trace.TracerProvider) Option { return func(c *config) { c.provider = p } }

// Propagator is how a trace is written into headers. Without it that is W3C Trace Context and Baggage,
// whatever the global propagator is, which does nothing unless somebody sets it.
func Propagator(p propagation.TextMapPropagator) Option {
	return func(c *config) { c.propagator = p }
}

// ChildSpans makes the work on a message a child of its publish, in the same trace, with the link besides.
// That suits short ways, such as requests and replies.
func ChildSpans() Option { return func(c *config) { c.child = true } }

// New makes a Tracing.
func New(opts ...Option) *Tracing {
	c := config{propagator: propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})}
	for _, o := range opts {
		o(&c)
	}
	if c.provider == nil {
		c.provider = otel.GetTracerProvider()
	}
	return &Tracing{
		tracer:     c.provider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		propagator: c.propagator, child: c.child,
	}
}

// A Destination is a *gmq.Queue or a *gmq.Topic.
type Destination interface {
	Name() string
	Send(ctx context.Context, body any, opts ...gmq.PublishOption) (gmq.Published, error)
}

// Send publishes as to.Send does, in a span, and lets the trace travel with the message. headers are the
// message's own, which are not changed; do not give gmq.Headers among opts, for the last one counts.
func (t *Tracing) Send(ctx context.Context, to Destination, body any, headers map[string]string, opts ...gmq.PublishOption) (gmq.Published, error) {
	ctx, span := t.tracer.Start(ctx, "send "+to.Name(), trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		semconv.MessagingSystemKey.String("gmq"),
		semconv.MessagingOperationName("send"),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(to.Name()),
	))
	defer span.End()
	opts = append(opts[:len(opts):len(opts)], gmq.Headers(t.Headers(ctx, headers)))
	published, err := to.Send(ctx, body, opts...)
	if err != nil {
		fail(span, err)
		return published, err
	}
	if published.Seq != 0 {
		span.SetAttributes(semconv.MessagingMessageID(strconv.FormatUint(published.Seq, 10)))
	} else {
		span.SetAttributes(queuesKey.Int(published.Queues))
	}
	span.SetAttributes(storedKey.String(published.Stored))
	if published.Duplicate {
		span.SetAttributes(duplicateKey.Bool(true))
	}
	return published, nil
}

// Headers gives headers with the trace of ctx added, for whoever publishes in another way, such as in
// batches or through the outbox. headers may be nil and are not changed.
func (t *Tracing) Headers(ctx context.Context, headers map[string]string) map[string]string {
	out := make(map[string]string, len(headers)+2)
	maps.Copy(out, headers)
	t.propagator.Inject(ctx, propagation.MapCarrier(out))
	return out
}

// Extract gives ctx with the trace, and the baggage, of whoever published the message.
func (t *Tracing) Extract(ctx context.Context, m *gmq.Message) context.Context {
	return t.propagator.Extract(ctx, propagation.MapCarrier(m.Headers))
}

// Handler makes the work on each message a span, with a link to the publish. What next returns is handed
// on; an error, or a panic, is noted in the span.
func (t *Tracing) Handler(next gmq.Handler) gmq.Handler {
	return func(ctx context.Context, m *gmq.Message) (err error) {
		ctx = t.Extract(ctx, m)
		options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(consumed(m)...)}
		if publisher := trace.SpanContextFromContext(ctx); publisher.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: publisher}))
		}
		if !t.child {
			options = append(options, trace.WithNewRoot())
		}
		ctx, span := t.tracer.Start(ctx, "process "+m.Queue(), options...)
		defer span.End()
		defer func() {
			if p := recover(); p != nil {
				fail(span, fmt.Errorf("panic: %v", p))
				panic(p) // it is the client's to deal with, as without us
			}
		}()
		if err = next(ctx, m); err != nil {
			fail(span, err)
		}
		return err
	}
}

func consumed(m *gmq.Message) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemKey.String("gmq"),
		semconv.MessagingOperationName("process"),
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName(m.Queue()),
		semconv.MessagingMessageID(strconv.FormatUint(m.Seq, 10)),
		semconv.MessagingMessageBodySize(len(m.Body)),
		attemptKey.Int(m.Attempt),
	}
	if m.Key != "" {
		attributes = append(attributes, keyKey.String(m.Key))
	}
	return attributes
}

// fail notes an error; its type is the server's code, where it has one.
func fail(span trace.Span, err error) {
	kind := fmt.Sprintf("%T", err)
	if e, ok := errors.AsType[*gmq.Error](err); ok {
		kind = string(e.Code)
	}
	span.RecordError(err)
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	span.SetStatus(codes.Error, err.Error())
}
