//go:build !linux

package chaos_test

import "testing"

func TestChaos(t *testing.T) {
	t.Skip("the networks of its own that each node gets are those of Linux")
}
