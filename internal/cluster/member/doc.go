// Package member is who belongs to a cluster: its authority and the certificates of its nodes, tokens to join with, the roster of
// nodes, and the one listener at which nodes meet.
//
// It owns the file with what this node is (identity.go), the listener and who is let in (listener.go, dial.go), what nodes ask each other
// about membership (control.go), and what is wished of the groups: their members, and who is to lead nothing. What all nodes know of each
// other are documents, which somebody else keeps (document.go).
//
// It does not know how documents are kept, what the groups hold, nor what is said on the connections that it hands over.
package member
