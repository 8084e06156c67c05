// Package queue is the meaning of GMQ: what a queue is, what happens to a
// message from its publishing to its end, and in which order consumers get it.
//
// It is pure. Commands come in as records that a journal has ordered and kept
// (Apply); what only the owning process knows, consumers and leases, comes in as
// method calls. Time and chance are values in both. What must be done in
// consequence goes out as return values: outcomes, deliveries (Take), records to
// be proposed (the Append functions), references taken up or given up (Spans).
//
// It does not know who stores the records, where replies go, what JSON is,
// or what time it is. It starts no goroutine and takes no lock: a State has one owner, the
// shard's goroutine.
package queue
