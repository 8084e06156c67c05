//go:build !linux

package powercut_test

import "testing"

func TestPowerCuts(t *testing.T) {
	t.Skip("the calls that mount an image and shut its file system down are those of Linux")
}
