package main

import "testing"

// Garbage is bounded by what it costs to collect it, and by what is alive.
func TestGarbagePercent(t *testing.T) {
	for _, c := range []struct {
		what          string
		live, scanned int64
		want          int
	}{
		{"nothing yet", 0, 0, mostPercent},
		{"an idle server", 8 << 20, 6 << 20, 200},
		{"a backlog in memory", 1 << 30, 10 << 20, leastPercent},
		{"5,000 busy connections", 330 << 20, 72 << 20, 43},
		{"little but pointers", 1 << 30, 1 << 30, 50},
	} {
		if got := garbagePercent(c.live, c.scanned); got != c.want {
			t.Errorf("%s: %d %%, want %d", c.what, got, c.want)
		}
	}
}
