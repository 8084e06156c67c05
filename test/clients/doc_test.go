// Package clients runs what is not written in Go against the real server: the examples in examples/lines, and
// the tests of the client in clients/typescript. What this machine has no interpreter for is skipped, and said.
package clients
