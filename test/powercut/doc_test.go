// Package powercut takes the disk away from a working server, as a power cut does, and gives it too small a one. The
// server and its clients are real, and so are the file systems; package disk says what they need and cannot show.
package powercut_test
