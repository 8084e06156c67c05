// Package chaos runs a cluster of real processes, each in a network of its own, under clients that never stop, and does to it what
// happens to machines: processes are killed and stand still, cables fail in one or both directions, disks forget and lie. It judges
// by what the clients were told, and compares what the nodes hold in the end.
//
// All that it makes lies in namespaces of the test's own process, which the kernel takes away with that process, however it ends.
package chaos_test
