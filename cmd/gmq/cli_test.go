package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	nobody := closedPort(t)
	for _, test := range []struct {
		args   string
		code   int
		stderr string // a part of it
	}{
		{"", 0, ""},
		{"--version", 0, ""},
		{"queue --help", 0, ""},
		{"ping", 0, ""},
		{"nosuch", 2, `unknown command "nosuch"`},
		{"pong", 2, "did you mean ping?"},
		{"queue", 2, "which of bind, cancel, create, explain, info, ls,"},
		{"queue nosuch", 2, "gmq queue --help"},
		{"completion nosuch", 2, `unknown command "nosuch"`},
		{"completion bash x", 2, "usage:"},
		{"ping x", 2, "usage: gmq ping [flags]"},
		{"ping --nosuch", 2, "unknown flag: --nosuch; see: gmq ping --help"},
		{"ping -n 0", 2, "-n: want 1 or more"},
		{"ping -o xml", 2, "want one of text, json"},
		{"ping --timeout 0s", 2, "--timeout"},
		{"serve --server x:1", 2, "gmq serve has no use for --server"},
		{"serve x", 2, "usage: gmq serve"},
		{"version --timeout 1s", 2, "no use for --timeout"},
		{"config check", 2, "usage: gmq config check FILE"},
		{"config show --nosuch", 2, "unknown flag"},
		{"pub", 2, "which queue?"},
		{"pub a b c", 2, "usage: gmq pub QUEUE [BODY]"},
		{"pub a/b x", 2, "is no name of a queue"},
		{"pub .a x", 2, "is no name of a queue"},
		{"pub --topic a..b x", 2, "is no topic"},
		{"pub --topic a b c", 2, "one BODY at most"},
		{"pub a b --file f", 2, "which of them?"},
		{"pub a b --json --base64", 2, "which of them?"},
		{"pub a b --header x", 2, "want name=value"},
		{"pub a --file /nosuch/file", 1, "/nosuch/file: no such file"},
		{"pub a b --delay 1s --at 2030-01-01T00:00:00Z", 2, "--delay and --at: which of them?"},
		{"pub a b --delay -1s", 2, "--delay: want 0s or more"},
		{"pub a b --at tomorrow", 2, "want a time such as 2026-12-24T18:00:00Z"},
		{"pub a b --ttl 0s", 2, "--ttl: want more than 0s"},
		{"pub a b --priority 10", 2, "--priority: want 0 to 9, not 10"},
		{"pub a --dedup-id x", 2, "--dedup-id is for one message"},
		{"pub a b --stored tape", 2, "want one of memory, written,"},
		{"pub a b --stored quorum", 1, "gmq: not_stored: "},
		{"sub", 2, "usage: gmq sub QUEUE"},
		{"sub a b", 2, "usage: gmq sub QUEUE"},
		{"sub a --topic b", 2, "QUEUE and --topic: which of them?"},
		{"sub --topic a.>.b", 2, `"a.>.b" is no pattern of topics`},
		{"sub --topic a --wait 1ms", 0, ""},
		{"pub --topic a b", 0, ""},
		{"pub --topic * b", 2, "is no topic"},
		{"sub a -n -1", 2, "-n: want 0 or more"},
		{"sub a --credit 0", 2, "--credit: want 1 to 10000"},
		{"sub a --ack never", 2, "want one of auto, manual"},
		{"sub a --follow --wait 1s", 2, "which of them?"},
		{"sub a --raw -o json", 2, "which of them?"},
		{"queue update a", 2, "which settings?"},
		{"queue update a --storage memory", 2, "unknown flag: --storage"},
		{"queue create a --max-bytes 5x", 2, "want a size"},
		{"queue create a --overflow burst", 2, "want one of reject,"},
		{"queue create a --lease 0s", 1, "bad_request: lease must be"},
		{"peek", 2, "usage: gmq peek QUEUE"},
		{"peek nosuch", 5, `gmq: not_found: queue "nosuch" does not exist`},
		{"queue peek a --state gone", 2, "want one of ready, delayed, leased"},
		{"queue peek a --limit -1", 2, "--limit: want 0 or more"},
		{"queue explain a", 2, "usage: gmq queue explain QUEUE SEQ"},
		{"queue explain a x", 2, `"x" is no number of a message`},
		{"queue explain a 0", 2, `"0" is no number of a message`},
		{"queue explain nosuch 1", 5, `gmq: not_found: queue "nosuch" does not exist`},
		{"queue cancel nosuch 1", 5, "gmq: not_found:"},
		{"queue reschedule a 1", 2, "when? --delay or --at"},
		{"queue reschedule a 1 --delay 1s --at 2030-01-01T00:00:00Z", 2, "which of them?"},
		{"queue reschedule a 1 --delay -1s", 2, "--delay: want 0s or more"},
		{"queue redrive a.dlq --max -1", 2, "--max: want 0 or more"},
		{"queue redrive a.dlq --to a/b", 2, "is no name of a queue"},
		{"queue purge a --state gone", 2, "want one of ready, delayed, leased"},
		{"queue redrive nosuch.dlq", 5, "gmq: not_found:"},
		{"queue bind a", 2, "usage: gmq queue bind QUEUE PATTERN"},
		{"queue bind a/b c", 2, "is no name of a queue"},
		{"queue bind a b..c", 2, `"b..c" is no pattern of topics`},
		{"queue bind nosuch b", 5, `gmq: not_found: queue "nosuch" does not exist`},
		{"queue unbind nosuch b", 5, "gmq: not_found:"},
		{"queue info nosuch", 5, `gmq: not_found: queue "nosuch" does not exist`},
		{"bench x", 2, "files are for --compare"},
		{"bench --compare x", 2, "want two files"},
		{"bench --compare /nosuch/a /nosuch/b", 1, "/nosuch/a: no such file"},
		{"bench --size 10", 2, "--size: want 36 to"},
		{"bench --local disk", 2, "want one of file, memory"},
		{"bench --local file --server x:1", 2, "--local and --server: which of them?"},
		{"bench --dir /tmp", 2, "--dir is for a --local server"},
		{"bench --messages 5 --duration 1s", 2, "--messages and --duration: which of them?"},
		{"bench --topic a..b", 2, "is no topic"},
		{"bench --queue a/b", 2, "is no name of a queue"},
		{"bench --batch 2000", 2, "--batch: want at most the window"},
		{"bench --local file --dir /nosuch/dir", 1, "/nosuch/dir"},
		{"bench --server " + nobody, 3, "gmq: cannot connect to " + nobody},
		{"journal dump --shard 256", 2, "--shard: want 0 to 255"},
		{"ping --server " + nobody, 3, "gmq: cannot connect to " + nobody + ": connection refused; is the server running? start one with: gmq serve"},
		{"--server " + nobody + " pub a b", 3, "cannot connect"},
		{"sub a --follow --server " + nobody, 3, "cannot connect"},
		{"queue ls --server nosuch.invalid", 3, "cannot connect to nosuch.invalid:4567: "},
	} {
		r := s.run("", strings.Fields(test.args)...)
		equal(t, "exit code of gmq "+test.args, r.code, test.code)
		contains(t, "gmq "+test.args, r.err, test.stderr)
		if (r.code == 0) != (r.err == "") || strings.Count(r.err, "\n") > 1 {
			t.Errorf("gmq %s: want one line on stderr and a code, or neither; got %d, %q", test.args, r.code, r.err)
		}
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	contains(t, "ping", s.must("", "ping"), s.addr+" (gmq v9.8.7, node n1): ")
	contains(t, "ping", s.must("", "ping", "-n", "5"), ": 5 times: least ")
	var r struct {
		Server, Version, Node, Least, Mean, Most string
		Count                                    int
	}
	if err := json.Unmarshal([]byte(s.must("", "ping", "-n", "3", "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Server != s.addr || r.Version != "v9.8.7" || r.Count != 3 || r.Mean == "" {
		t.Errorf("as JSON: %+v", r)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	contains(t, "version", gmqRun(t, nil, "", "version").out, "gmq v9.8.7 go1.")
	var b build
	if err := json.Unmarshal([]byte(gmqRun(t, nil, "", "version", "-o", "json").out), &b); err != nil || b.Version != "v9.8.7" || b.Go == "" {
		t.Errorf("as JSON: %+v, %v", b, err)
	}
}

// Every command says what it does, shows how, and has only flags that do something.
func TestHelp(t *testing.T) {
	t.Parallel()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Name() == "help" || sub.Name() == "completion" {
				continue
			}
			walk(sub)
		}
		if cmd.Short == "" {
			t.Errorf("%s says nothing of itself", cmd.CommandPath())
		}
		if cmd.Example == "" && !cmd.HasSubCommands() && cmd.Name() != "serve" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
	}
	walk(newRoot())
	contains(t, "ping", gmqRun(t, nil, "", "ping", "--help").out, "--server", "--timeout", "--output")
	for _, args := range [][]string{{"serve", "--help"}, {"config", "check", "--help"}} {
		if out := gmqRun(t, nil, "", args...).out; strings.Contains(out, "--server") {
			t.Errorf("%v shows --server, which it has no use for", args)
		}
	}
}

func TestForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		equal(t, "grouped", grouped(n), want)
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 3 << 30: "3.0 GiB"} {
		equal(t, "bytesText", bytesText(n), want)
	}
	equal(t, "plural", plural(1, "message")+", "+plural(2, "message"), "1 message, 2 messages")
}
