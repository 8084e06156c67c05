package main

import (
	"encoding/json"
	"testing"
)

func TestQueueCommands(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const all = `{"queue":"orders","settings":{"storage":"memory","max_messages":10,"max_bytes":65536,"overflow":"drop_oldest",` +
		`"lease":"1m0s","max_deliveries":3,"retry":{"min":"0s","max":"2s","factor":3,"jitter":0},` +
		`"ttl":"1h0m0s","dedup_window":"0s","dead_letter_expired":true}}` + "\n"
	create := []string{
		"queue", "create", "orders", "--storage", "memory", "--max-messages", "10", "--max-bytes", "64KiB", "--overflow", "drop_oldest",
		"--lease", "1m", "--max-deliveries", "3", "--retry-min", "0s", "--retry-max", "2s", "--retry-factor", "3", "--retry-jitter", "0",
		"--ttl", "1h", "--dedup-window", "0s", "--dead-letter-expired",
	}
	equal(t, "created", s.must("", append(create, "-o", "json")...), all)
	equal(t, "created again", s.must("", create...), "")
	r := s.run("", "queue", "create", "orders", "--max-messages", "11")
	equal(t, "with other settings", r.code, 1)
	contains(t, "stderr", r.err, "gmq: exists:")

	contains(t, "update", s.must("", "queue", "update", "orders", "--max-messages", "0", "--retry-min", "1s", "--ttl", "0s", "--dedup-window", "1m", "--dead-letter-expired=false", "-o", "json"),
		`"max_messages":0`, `"max_bytes":65536`, `"retry":{"min":"1s","max":"2s","factor":3,"jitter":0}`, `"ttl":"0s","dedup_window":"1m0s","dead_letter_expired":false`)

	s.must("1\n2\n", "pub", "orders")
	s.must("", "pub", "other", "x")
	want := `QUEUE   STORAGE  READY  LEASED  DELAYED
orders  memory       2       0        0
other   file         1       0        0
`
	equal(t, "ls", s.must("", "queue", "ls"), want)
	r = s.run("", "queue", "create", "rows", "--storage", "mysql") // it is for the server to say whether it has a database
	equal(t, "storage mysql", r.code, exitError)
	contains(t, "storage mysql", r.err, "mysql")
	equal(t, "list", s.must("", "queue", "list", "--prefix", "ot", "-o", "json"), `{"queue":"other","storage":"file","ready":1,"leased":0,"delayed":0}`+"\n")

	info := s.must("", "queue", "info", "orders")
	contains(t, "info", info, "queue      orders\n", "state      delivering\n", "\n  published  2\n  ready      2\n",
		"\n  max-messages         no limit\n", "\n  max-bytes            64KiB\n", "\n  lease                1m\n",
		"\n  retry                min 1s, max 2s, factor 3, jitter 0\n", "\n  ttl                  no limit\n",
		"\n  dedup-window         1m\n", "\n  dead-letter-expired  false\n")
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s.must("", "queue", "info", "orders", "-o", "json")), &fields); err != nil || fields["counts"] == nil || fields["ok"] != nil {
		t.Errorf("info as JSON: %v, %v", fields, err)
	}

	equal(t, "pause", s.must("", "queue", "pause", "orders", "-o", "json"), `{"paused":true,"queue":"orders"}`+"\n")
	contains(t, "info", s.must("", "queue", "info", "orders"), "state      paused; gmq queue resume orders\n")
	s.must("", "queue", "resume", "orders")
	s.must("", "pub", "orders", "later", "--delay", "1h")
	equal(t, "purge", s.must("", "queue", "purge", "orders", "--state", "leased"), "0 messages purged\n")
	equal(t, "purge", s.must("", "queue", "purge", "orders", "--state", "ready"), "2 messages purged\n")
	equal(t, "delayed", s.counts("orders")["delayed"], 1)
	equal(t, "purge", s.must("", "queue", "purge", "orders", "-o", "json"), `{"purged":1,"queue":"orders"}`+"\n")
	equal(t, "purged", s.counts("orders")["purged"], 3)
	s.must("", "queue", "rm", "orders")
	s.must("", "queue", "delete", "other", "--yes")
	equal(t, "ls", s.must("", "queue", "ls", "-o", "json"), "")
	for _, what := range []string{"info", "update", "rm", "purge", "pause", "resume"} {
		args := []string{"queue", what, "orders"}
		if what == "update" {
			args = append(args, "--lease", "1s")
		}
		r := s.run("", args...)
		equal(t, what+" of a queue that is gone", r.code, 5)
		contains(t, "stderr", r.err, `gmq: not_found: queue "orders" does not exist`)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		contains(t, shell, s.must("", "completion", shell), "gmq")
	}
	s.must("", "queue", "create", "orders.eu")
	s.must("", "queue", "create", "orders.us")
	s.must("", "queue", "create", "mails")
	for _, args := range [][]string{{"pub"}, {"sub"}, {"queue", "info"}} {
		r := s.run("", append(append([]string{"__complete"}, args...), "or")...)
		equal(t, "queues", r.out, "orders.eu\norders.us\n:4\n")
	}
	equal(t, "forms", s.run("", "__complete", "ping", "-o", "").out, "text\njson\n:4\n")
}
