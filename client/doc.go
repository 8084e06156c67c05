// Package gmq is the Go client of the GMQ message queue.
//
// It owns one connection to a server, or to a cluster a few, what has been asked over it and not yet
// been answered, and the subscriptions. It reconnects by itself for as long as
// it is not closed, subscribes again, and repeats whatever can be repeated
// without harm. A publish is not such a thing: where the connection is lost
// before the answer came, the publish fails with [ErrUnknownOutcome] unless
// the caller opted in to a second try with [Retry] or named the message with [DedupID].
//
// Of a cluster it takes several addresses, learns the others', and goes on with another node when its own is lost. What nobody led at the
// moment ([ErrNoQuorum]) was certainly not done, and is asked again by whoever waits for it; what may have been done ([ErrUnknownOutcome])
// is asked again only where that does no harm.
//
// It also finds out which nodes lead the queues that it uses, connects to these, too, and publishes and consumes there, so that a message need not
// cross two nodes. A node that it cannot reach it does without, as any node passes on what another one leads. A subscription follows its queue when that gets
// another leader, and gives back nothing for it. There are never more connections than nodes; [OneConnection] keeps to one, say behind something that spreads connections over the nodes.
// A client that publishes to topics does all its publishing over one connection, for only that keeps the order of both.
//
//	c, err := gmq.Dial(ctx, "localhost:4567")
//	q := c.Queue("emails")
//	sent, err := q.Send(ctx, mail)
//	err = q.Work(ctx, 8, func(ctx context.Context, m *gmq.Message) error { … })
//
// # Bodies
//
// A body is any JSON value and arrives byte for byte as it was sent:
//
//   - [encoding/json.RawMessage] is sent as it stands, once it has been found valid (line
//     breaks between its tokens are taken out, for they end a request);
//   - []byte is sent as a base64 string, marked so: [Message.Bytes] gives the bytes back;
//   - string is sent as a JSON string: [Message.Text] gives it back;
//   - anything else goes through encoding/json: [Message.Decode] is the way back.
//
// # Delivery
//
// Messages are delivered at least once. Every delivery is leased; [Message.Ack]
// settles it, [Message.Nack] gives it back, and doing neither until the lease
// is over gives it back as well. [Queue.Work] does all that for a handler.
//
// # Topics
//
// A message that is published to a [Topic] is copied into every queue that is
// bound to it ([Queue.Bind]), into all of them or none. Who only wants to hear
// what is said from now on, subscribes to the topic ([Topic.Messages]). And
// [Queue.Request] waits for the answer to a message, which [Message.Reply] gives.
//
// # How it works
//
// Callers encode their request into one shared buffer; a writer takes whatever
// has gathered there while the last system call ran, a reader hands out the
// replies by id. One lock, Client.mu, guards what they share; nothing waits
// while it is held. The files:
//
//	client.go        life and reconnecting
//	failover.go      several addresses, and asking again
//	lane.go          what has been written for a connection, and what becomes of it when that is lost
//	leaders.go       who leads, and the connections to them
//	link.go          one connection, its reader and its writer
//	call.go          requests that wait for their reply
//	publish.go       sending; the options are in sendoptions.go
//	message.go       what arrives; ack.go settles it
//	subscription.go  Messages and Receive
//	work.go          Work
//	topic.go         topics: publishing, subscribing, binding
//	request.go       requests and replies
//	manage.go        queues and the server
//	inspect.go       single messages: looking at them, explaining and moving them
package gmq
