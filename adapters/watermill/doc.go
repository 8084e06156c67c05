// Package watermill lets Watermill (github.com/ThreeDotsLabs/watermill) publish to and subscribe from GMQ.
//
// It owns the mapping between the two: Watermill's topics are GMQ's topics, a consumer group is a
// queue bound to the topic, a UUID and metadata are headers, a payload is a body. It knows the client
// and nothing of the server; the client is its caller's, to be made before and closed after.
//
//	client, err := gmq.Dial(ctx, "localhost:4567")
//	publisher, err := watermill.NewPublisher(client, watermill.PublisherConfig{})
//	subscriber, err := watermill.NewSubscriber(client, watermill.SubscriberConfig{Group: "billing"})
//
// # Delivery
//
// At least once. An ack settles the message on the server; a nack gives it back to be delivered again,
// by default at once, in its place in the order, and as often as it takes: Watermill's middleware is what
// decides about poisoned messages. Who wants the server to decide sets MaxDeliveries in
// [SubscriberConfig.Queue]; then such messages go into the dead-letter queue.
//
// A subscriber has one message at a time, so that the order of the topic holds; subscribe several times
// for more. The lease of a message is extended for as long as the message is neither acked nor nacked.
//
// A queue gets what is published from the moment that it is bound. Subscribe binds it;
// SubscribeInitialize does so for whoever wants to publish before that.
package watermill
