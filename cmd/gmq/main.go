// Command gmq is the message queue server and the tool to talk to it, in one binary.
//
// This package wires the rooms together and owns what belongs to a process: arguments, signals, exit
// codes. It decides nothing about queues.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// version is set when the binary is built (-ldflags "-X main.version=…").
var version = "dev"

// The exit codes.
const (
	exitOK         = 0
	exitError      = 1
	exitUsage      = 2
	exitConnect    = 3
	exitNotAllowed = 4
	exitNotFound   = 5
)

// A failure is an error with its exit code.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func usage(format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	if err := newRoot().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "gmq:", err)
		os.Exit(exitCode(err))
	}
}

func exitCode(err error) int {
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	return exitError
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "gmq",
		Short: "A message queue that anyone can talk to with one line of JSON, and that keeps what it has confirmed.",
		Example: `  gmq serve
  gmq pub orders 'hello'
  gmq sub orders`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
	}
	g := addGlobals(root)
	root.AddCommand(
		newServe(),
		newPub(g), newSub(g), newPeek(g), newQueue(g), newTop(g), newPing(g), newBench(g),
		newUser(g), newToken(g), newAuth(g),
		newContext(g), newDevCert(), newCheck(g), newCluster(g),
		newConfig(g), newJournal(g), newBackup(g), newRestore(g), newVersion(g),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strict(root)
	return root
}
