// Package wire is the protocol: frames, requests, replies, deliveries, the
// closed list of error codes, and the limits of single fields. Server and
// client share it.
//
// It knows no connection, no queue and no clock, and imports the standard
// library only.
package wire
