package member

import (
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h (RFC 5482).
const tcpUserTimeout = 18

// giveUpSilent has the kernel give a connection up on which what was sent is not acknowledged for so long. Without it the kernel tries for a
// quarter of an hour, more and more rarely, so that nodes that were cut off from each other for long would be for minutes more.
func giveUpSilent(c net.Conn, after time.Duration) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		// Where it is not possible the connection is as good as without.
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(after.Milliseconds()))
		})
	}
}
