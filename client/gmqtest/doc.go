// Package gmqtest gives a test a real GMQ server, in the test's own process, whose
// time is the test's: an hour's delay passes in a moment.
//
//	srv := gmqtest.NewServer(t)
//	q := srv.Client(t).Queue("emails")
//	q.Send(t.Context(), "wake up", gmq.Delay(time.Hour))
//	srv.Advance(time.Hour)
//	msgs, err := q.Receive(t.Context(), 1, 0)
//
// # Time
//
// The server's clock stands still until [Server.Advance] moves it. It begins at the machine's
// time, so say [gmq.At] with the time of [Server.Clock], not with that of package time.
// Everything that the server times goes by it: delays, leases, backoff, lifetimes,
// dedup windows, and the wait of [gmq.Queue.Receive].
//
// When Advance returns, the server has dealt with the new time: a Receive with a wait of 0 finds
// what has become ready, and finding nothing means that there is nothing. What is pushed
// to [gmq.Queue.Messages] and [gmq.Queue.Work], and the end of a Receive that waits, are on
// their way then and arrive a moment later.
//
// A Receive with a wait returns when a message comes, but not when the wait is over: for that,
// somebody has to move the clock meanwhile. So wait for a message that must come, with a
// context that ends, and expect none with a wait of 0.
//
// One Advance is one step: what is due at its end is due, in between nobody acts. A lease that
// it ends gives the message back at the new time, and the queue's backoff (1s, if it
// says nothing) begins there: advance again.
//
// The client's time is the machine's: contexts, reconnecting, and how [gmq.Queue.Work]
// extends leases. A handler that runs while the clock passes its lease loses the message.
//
// # What it is not
//
// There are no subprocess, no configuration file, and no metrics. Settings are
// the real server's defaults, but for the jitter of the backoff, which is 0. The server has
// sockets, so it does not run in a bubble of testing/synctest.
package gmqtest
