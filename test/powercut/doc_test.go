// Package powercut takes the disk away from a working server, as a power cut does, and gives it too small a one.
// Disks are images with real file systems on them, ext4 and xfs, which the kernel's own shutdown call makes
// forget what was not synced; the server and its clients are real too. It needs Linux, the right to mount, loop
// devices and mkfs; where one is missing the tests are skipped, and say which.
//
// What it cannot show: that the server asks for too few flushes of the disk's own cache. What the kernel has
// written to an image stays written.
package powercut_test
