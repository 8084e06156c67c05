package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// openTerminal makes a terminal: what the person has, and what the program gets.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	var locked, number int32
	for _, call := range []struct {
		request uintptr
		value   *int32
	}{{syscall.TIOCSPTLCK, &locked}, {syscall.TIOCGPTN, &number}} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), call.request, uintptr(unsafe.Pointer(call.value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// onTerminal runs a command at a terminal where a question is answered so.
func (s *daemon) onTerminal(answer string, args ...string) (code int, shown string) {
	s.t.Helper()
	person, program := openTerminal(s.t)
	cmd := command(s.t, args...)
	cmd.Env = append(cmd.Env, s.env()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	program.Close() // ours: reading ends when the command's is closed
	in := bufio.NewReader(person)
	if answer != "" {
		question, err := in.ReadString('?')
		if err != nil {
			s.t.Fatal(err)
		}
		shown = question
		fmt.Fprintln(person, answer)
	}
	for {
		line, err := in.ReadString('\n')
		shown += line
		if err != nil {
			break
		}
	}
	_ = cmd.Wait() // the exit code says it
	return cmd.ProcessState.ExitCode(), strings.ReplaceAll(shown, "\r", "")
}

func TestOnATerminal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	at := func(answer string, code int, shown string, args ...string) {
		t.Helper()
		gotCode, gotShown := s.onTerminal(answer, args...)
		equal(t, fmt.Sprint("code of ", args), gotCode, code)
		contains(t, fmt.Sprint(args), gotShown, shown)
	}
	at("", 0, "queue q created\n", "queue", "create", "q")
	at("", 0, "published to q, seq 1, stored: disk\n", "pub", "q", "x")
	at("n", 1, "gmq: queue q is left as it is\n", "queue", "purge", "q")
	at("n", 1, "Delete queue q (it holds 1 message)? [y/N] n\n", "queue", "rm", "q")
	equal(t, "what is left", s.counts("q")["ready"], 1)
	at("n", 1, "Delete what is delayed in queue q (0 messages)? [y/N] n\n", "queue", "purge", "q", "--state", "delayed")
	at("yes", 0, "Delete the messages of queue q (it holds 1 message)? [y/N] yes\n1 message purged\n", "queue", "purge", "q")
	at("", 0, "queue q deleted\n", "queue", "rm", "q", "--yes")
	at("", 5, "gmq: not_found:", "queue", "rm", "q")

	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if onTerminal(null) {
		t.Error("nobody sits at the null device")
	}
}
