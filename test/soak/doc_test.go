// Package soak lets the real server work for hours while everything goes wrong that can be made to go wrong, in an
// order that follows from a seed, and asks after each round whether all that was promised is there. Clients, and the
// ledger of what they were promised, are those of test/load.
//
// A round has new queues and the data directory of the rounds before. A disk of its own, which is needed to cut the
// power, to fill it and to stall it, is used where the machine allows it; the report says what was left out.
package soak_test
