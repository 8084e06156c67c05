// Package sim runs whole brokers - the code that runs in production, with its journal - from one seed, in virtual time,
// over disks that fail and among clients that come and go, and checks what the clients were told.
//
// A World has nodes and clients. A node is a disk, a clock that jumps, and a process that is killed and started again.
// Whatever is a goroutine elsewhere is a task here (task.go): a coroutine that runs until it waits. The world says whose turn
// it is (world.go), and moves the clock on when nobody can go on. A disk's operation takes time too, so others come in between
// any two of them. In a quarter of the worlds the journal is reached as a database is: what is read has to be fetched, and now and then it is
// out of reach (remote.go). So the same seed gives the same history, byte for byte. Worlds of Raft groups (groups.go) have several nodes and a network between
// them, and no brokers; what they check is in group_ledger.go. Worlds of a cluster (peers.go, lines.go) have the brokers too, and the checks of this one.
//
// What is checked, from what left the processes (a line that has been handed to a connection counts as seen):
//
//   - P1, no loss. What was confirmed on a disk that does not lie is delivered in the end, in its queue or as a dead letter, unless
//     somebody asked for its end (an ack, a cancel, a purge) or its queue lets messages go (ttl, drop_oldest). What is only in
//     memory may go with the process. A batch, and a publish to a topic, are stored whole or not at all, also where no
//     confirm came; what was refused is never there.
//   - P2, no ghosts. After an ack or a cancel that was confirmed the message never comes again. It has one number
//     in its queue; a dedup_id stores one message. A delivery that is not the first says so, and so does every one of what is
//     older than the process.
//   - P3, one at a time. Nobody is given what somebody else has: between two deliveries something must have ended
//     the first, such as a nack, the end of the lease, or of the connection.
//   - P4, order. Numbers rise as a connection sent its publishes; first deliveries come in order of their numbers, those of a higher
//     priority first; of a key, one at a time. Nothing comes before it is due, or when its retry is not, or after its ttl;
//     what is paused does not come at all. Attempts are counted, across restarts, up to max_deliveries.
//   - P5, one story. A publish that was sent after another was confirmed has the higher number. The counts of a queue add
//     up at every moment.
//   - P6, nothing wrong is served. Body, headers, key and topic are the bytes that were sent. A changed bit is found, and
//     told: a start that is refused, and a process that ends, must have a reason. Nothing is promised after that.
//   - P7, P8. When the faults end it comes up again and can be emptied; the log stays in proportion to what is live; and
//     when the clients have gone nothing is leased, and no task is left.
//   - P9. What has really happened is counted (Stats), and the tests fail where that was too little.
//   - P10. A failure names its seed: make sim SEED=n.
//
// It knows the wire protocol and what the storages promise, not how they keep it. Mutants (mutants_test.go) are what the
// checks are worth: known faults, each of which must be found.
package sim
