// Package auth says who somebody is, and what he may do: users with their passwords, tokens and names in certificates,
// grants and the decision that they lead to, the slowing down of those who guess, and limits by user and address.
//
// It opens no socket and keeps nothing itself. What it knows comes in as documents that the broker's journal has kept
// (Service.Changed) and goes out as documents to be kept (Options.Put); time comes in as a function. It does not know
// what a queue is, only names.
package auth
