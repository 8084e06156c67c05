package main

import (
	"log/slog"
	"net"
	"os"

	"github.com/gmq/gmq/internal/config"
)

// newLogger writes to stderr: text for people at a terminal, JSON otherwise unless the
// configuration says so.
func newLogger(c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	setLevel(level, c.Level)
	opt := &slog.HandlerOptions{Level: level}
	if c.Format == "json" || c.Format == "auto" && !onTerminal(os.Stderr) {
		return slog.New(slog.NewJSONHandler(os.Stderr, opt)), level
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opt)), level
}

func setLevel(v *slog.LevelVar, name string) {
	if err := v.UnmarshalText([]byte(name)); err != nil {
		v.Set(slog.LevelInfo) // Validate has let no other name through
	}
}

// notify tells the service manager how things stand, where there is one that asked (sd_notify).
func notify(state string) {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return
	}
	if addr[0] == '@' { // the abstract name space
		addr = "\x00" + addr[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte(state))
}
