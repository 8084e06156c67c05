//go:build !linux

package disk

import (
	"errors"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

var errOther = errors.New("the calls that mount an image and shut its file system down are those of Linux")

// Main is harness.Main here.
func Main(m *testing.M) int { return harness.Main(m) }

// MainNetwork is the same.
func MainNetwork(m *testing.M) int { return harness.Main(m) }

// Outside says that there are no namespaces here.
func Outside() error { return errOther }

// Try says that there are no such disks here, so that nobody has one to do the following with.
func Try(*testing.T, string, string, int64) (*Disk, error) { return nil, errOther }

func (*Disk) Ballast(t testing.TB, _ int64) string { t.Fatal(errOther); return "" }
func (*Disk) Cut(Loss) error                       { return errOther }
func (*Disk) Remount() error                       { return errOther }
func (*Disk) Stall() error                         { return errOther }
func (*Disk) Proceed() error                       { return errOther }

// Freeze is for a disk that is about to be cut.
func Freeze(int) error { return errOther }
