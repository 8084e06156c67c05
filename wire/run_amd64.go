package wire

// plainRun goes over bytes that are neither quotes, backslashes nor control bytes, and stops where one of them is or fewer than 32 follow. high is
// not 0 where one of the n bytes is 0x80 or more; one behind them may make it so, too.
//
//go:noescape
func plainRun(b []byte) (n int, high uint64)

// base64Run goes over bytes of the base64 alphabet, and stops where another one is or fewer than 32 follow.
//
//go:noescape
func base64Run(b []byte) int
