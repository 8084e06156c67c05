package powercut_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// The numbers are the kernel's, from linux/loop.h and xfs_fs.h; ext4 has taken over those of xfs.
const (
	loopGetFree     = 0x4C82
	loopConfigure   = 0x4C0A
	loopConfigSize  = 304
	loopConfigFlags = 8 + 52 // of lo_flags in the loop_info64 in the loop_config
	loopAutoclear   = 4

	shutdownIoctl = 0x8004587D // _IOR('X', 125, __u32)
)

// A loss is what a shut-down file system forgets.
type loss uint32

const (
	syncAll   loss = 0 // nothing: everything is written first
	flushLog  loss = 1 // data that was not written; its log is
	flushNone loss = 2 // everything that was not synced
)

func (l loss) String() string {
	return [...]string{"after a sync", "after its log", "at once"}[l]
}

// A disk is a file system in a file, or in memory.
type disk struct {
	kind  string // ext4, xfs or tmpfs
	image string // "" for tmpfs
	dir   string // where it is mounted
}

// newDisk makes and mounts one, whose image is in a directory. It lasts until the test ends. Where the machine
// does not allow it the test is skipped.
func newDisk(t *testing.T, kind, in string, size int64) *disk {
	t.Helper()
	if outside != nil {
		cannot(t, outside)
	}
	d := &disk{kind: kind, image: filepath.Join(in, "image"), dir: t.TempDir()}
	if err := d.format(size); err != nil {
		cannot(t, err)
	}
	if err := d.mount(); err != nil {
		cannot(t, err)
	}
	d.unmountAfter(t)
	return d
}

// newMemory is newDisk in memory, which forgets everything when it is unmounted.
func newMemory(t *testing.T, size int64) *disk {
	t.Helper()
	if outside != nil {
		cannot(t, outside)
	}
	d := &disk{kind: "tmpfs", dir: t.TempDir()}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		cannot(t, fmt.Errorf("mount tmpfs on %s: %w", d.dir, err))
	}
	d.unmountAfter(t)
	return d
}

func (d *disk) unmountAfter(t *testing.T) {
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("umount %s: %v", d.dir, err) // EINVAL: nothing is mounted there any more
		}
	})
}

// ballast fills the file system with a file, but for so much. Whoever removes that gives the room back.
func (d *disk) ballast(t *testing.T, left int64) (name string) {
	t.Helper()
	var stat syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &stat); err != nil {
		t.Fatal(err)
	}
	size := int64(stat.Bavail)*int64(stat.Bsize) - left
	f, err := os.Create(filepath.Join(d.dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		t.Fatalf("fallocate %d of %d free blocks of %d bytes: %v", size, stat.Bavail, stat.Bsize, err)
	}
	return f.Name()
}

func (d *disk) format(size int64) error {
	f, err := os.Create(d.image)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	args, from := []string{"-q", d.image}, "xfsprogs"
	if d.kind == "ext4" {
		args, from = []string{"-q", "-F", "-m", "0", d.image}, "e2fsprogs"
	}
	mkfs, err := tool("mkfs." + d.kind)
	if err != nil {
		return fmt.Errorf("%w; it comes with the package %s", err, from)
	}
	if out, err := exec.Command(mkfs, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", mkfs, err, out)
	}
	return nil
}

// tool finds a program that may not be on the path of somebody who is not root.
func tool(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			if exe, e := exec.LookPath(filepath.Join(dir, name)); e == nil {
				return exe, nil
			}
		}
	}
	return path, err
}

// mount attaches the image to a loop device that was not used for it before, so that nothing of it is in the
// kernel's memory, and mounts that. The device is free again when it is unmounted.
func (d *disk) mount() error {
	device, err := d.attach()
	if err != nil {
		return err
	}
	defer device.Close()
	if err := syscall.Mount(device.Name(), d.dir, d.kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s of %s on %s: %w", d.kind, device.Name(), d.dir, err)
	}
	return nil
}

func (d *disk) attach() (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	image, err := os.OpenFile(d.image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	for {
		number, err := ioctl(control, loopGetFree, nil)
		if err != nil {
			return nil, fmt.Errorf("ioctl LOOP_CTL_GET_FREE: %w", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		var config [loopConfigSize]byte
		binary.NativeEndian.PutUint32(config[:], uint32(image.Fd()))
		binary.NativeEndian.PutUint32(config[loopConfigFlags:], loopAutoclear)
		if _, err = ioctl(device, loopConfigure, unsafe.Pointer(&config)); err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, syscall.EBUSY) { // somebody else was given the same one
			return nil, fmt.Errorf("ioctl LOOP_CONFIGURE of %s: %w", device.Name(), err)
		}
	}
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// cut shuts the file system down: nothing reaches the image any more, and what it forgets is lost. It fails where
// a file can still be written afterwards.
func (d *disk) cut(l loss) error {
	dir, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	flags := uint32(l)
	if _, err := ioctl(dir, shutdownIoctl, unsafe.Pointer(&flags)); err != nil {
		return fmt.Errorf("ioctl to shut %s down: %w", d.kind, err)
	}
	err = os.WriteFile(filepath.Join(d.dir, "after-the-cut"), nil, 0o600)
	if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ESHUTDOWN) {
		return fmt.Errorf("after %s was shut down a file can be made, or fails otherwise than it should: %v", d.kind, err)
	}
	return nil
}

// remount is what the machine does when the power is back. Nobody may have a file open.
func (d *disk) remount() error {
	if err := syscall.Unmount(d.dir, 0); err != nil {
		return fmt.Errorf("umount %s: %w", d.dir, err)
	}
	return d.mount()
}
