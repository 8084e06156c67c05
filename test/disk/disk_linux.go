package disk

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
	freezeIoctl   = 0xC0045877 // _IOWR('X', 119, int)
	thawIoctl     = 0xC0045878 // _IOWR('X', 120, int)
)

// Try makes and mounts a disk, whose image is in a directory, or for tmpfs, which forgets everything when it is
// unmounted, nowhere. It lasts until the test ends.
func Try(t *testing.T, kind, in string, size int64) (*Disk, error) {
	t.Helper()
	if outside != nil {
		return nil, outside
	}
	d := &Disk{Kind: kind, Dir: t.TempDir(), image: filepath.Join(in, "image")}
	if kind == "tmpfs" {
		if err := syscall.Mount("tmpfs", d.Dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
			return nil, fmt.Errorf("mount tmpfs on %s: %w", d.Dir, err)
		}
	} else {
		if err := d.format(size); err != nil {
			return nil, err
		}
		if err := d.mount(); err != nil {
			return nil, err
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.Dir, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("umount %s: %v", d.Dir, err) // EINVAL: nothing is mounted there any more
		}
	})
	return d, nil
}

// Ballast fills the file system with a file, but for so much. Whoever removes that gives the room back.
func (d *Disk) Ballast(t testing.TB, left int64) (name string) {
	t.Helper()
	f, err := os.Create(filepath.Join(d.Dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for try := 0; ; try++ {
		var stat syscall.Statfs_t
		if err := syscall.Statfs(d.Dir, &stat); err != nil {
			t.Fatal(err)
		}
		size := int64(stat.Bavail)*int64(stat.Bsize) - left
		if size <= 0 { // somebody else has filled it
			return f.Name()
		}
		err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
		if err == nil {
			return f.Name()
		}
		if err != syscall.ENOSPC || try == 10 { // others may be writing
			t.Fatalf("fallocate %d of %d free blocks of %d bytes: %v", size, stat.Bavail, stat.Bsize, err)
		}
		if err := f.Truncate(0); err != nil { // what was had until then
			t.Fatal(err)
		}
	}
}

func (d *Disk) format(size int64) error {
	f, err := os.Create(d.image)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	args, from := []string{"-q", d.image}, "xfsprogs"
	if d.Kind == "ext4" {
		args, from = []string{"-q", "-F", "-m", "0", d.image}, "e2fsprogs"
	}
	mkfs, err := tool("mkfs." + d.Kind)
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
func (d *Disk) mount() error {
	device, err := d.attach()
	if err != nil {
		return err
	}
	defer device.Close()
	if err := syscall.Mount(device.Name(), d.Dir, d.Kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s of %s on %s: %w", d.Kind, device.Name(), d.Dir, err)
	}
	return nil
}

func (d *Disk) attach() (*os.File, error) {
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

// Cut shuts the file system down: nothing reaches the image any more, and what it forgets is lost. It fails where
// a file can still be written afterwards.
func (d *Disk) Cut(l Loss) error {
	dir, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	flags := uint32(l)
	if _, err := ioctl(dir, shutdownIoctl, unsafe.Pointer(&flags)); err != nil {
		return fmt.Errorf("ioctl to shut %s down: %w", d.Kind, err)
	}
	err = os.WriteFile(filepath.Join(d.Dir, "after-the-cut"), nil, 0o600)
	if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ESHUTDOWN) {
		return fmt.Errorf("after %s was shut down a file can be made, or fails otherwise than it should: %v", d.Kind, err)
	}
	return nil
}

// Remount is what the machine does when the power is back. Nobody may have a file open.
func (d *Disk) Remount() error {
	if err := syscall.Unmount(d.Dir, 0); err != nil {
		return fmt.Errorf("umount %s: %w", d.Dir, err)
	}
	return d.mount()
}

// Stall lets every write and sync wait, whoever makes it, until Proceed; a tmpfs knows no such thing. Stalls are to be
// short: if this process is killed in one, the kernel keeps the disk and whoever writes to it, until somebody writes
// a j to /proc/sysrq-trigger.
func (d *Disk) Stall() error { return d.tell(freezeIoctl) }

// Proceed ends Stall.
func (d *Disk) Proceed() error { return d.tell(thawIoctl) }

func (d *Disk) tell(request uintptr) error {
	dir, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, err := ioctl(dir, request, nil); err != nil {
		return fmt.Errorf("ioctl %#x of %s: %w", request, d.Kind, err)
	}
	return nil
}
