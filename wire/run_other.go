//go:build !amd64

package wire

func plainRun(b []byte) (n int, high uint64) { return plainWords(b) }

func base64Run(b []byte) int { return base64Words(b) }
