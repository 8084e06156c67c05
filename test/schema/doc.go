// Package schema makes docs/schema, the protocol for machines, of the tables in package wire and of what is
// written down here, and checks it: against the decoder, value by value, against the frames in
// docs/protocol.md, and against what a real server says.
//
// It is a module of its own, for the validator is nobody else's dependency. It knows no server but from outside.
package schema
