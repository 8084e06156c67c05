package tidy

import (
	"slices"
	"strings"
	"testing"
)

const anything = "*"

// rooms say what each package may import: of ours, and of other people's.
// The standard library is everybody's, except as pure says. Tests are free.
var rooms = []struct {
	dir     string
	below   bool // the packages below it too
	ours    []string
	foreign []string
	because string
}{
	{dir: "wire", because: "the protocol is shared by everybody and depends on nobody; whoever imports the client gets no dependencies with it"},
	{dir: "client", ours: []string{"wire"}, because: "whoever imports the client gets no dependencies with it"},
	{dir: "client/gmqtest", ours: []string{"client", "wire", "internal/broker", "internal/server", "internal/journal", "internal/journal/filejournal", "internal/queue", "internal/vfs", "internal/certs"}, because: "it puts a real server together for other people's tests, which only those who import it pay for"},
	{dir: "internal/spare", because: "buffers, whatever is in them"},
	{dir: "internal/queue", because: "the core is pure: what it means must not depend on how it is stored or reached"},
	{dir: "internal/vfs", foreign: []string{"golang.org/x/sys"}, because: "it is the bottom: the operating system, or a pretence of it"},
	{dir: "internal/journal", ours: []string{"internal/spare"}, because: "it says what storages must do and must not know one"},
	{dir: "internal/wal", ours: []string{"internal/vfs", "internal/journal"}, because: "records in files, whatever they mean"},
	{dir: "internal/journal/filejournal", ours: []string{"internal/journal", "internal/wal", "internal/vfs", "internal/spare"}, because: "a storage knows files, no queues and no other storage"},
	{dir: "internal/journal/mysqljournal", ours: []string{"internal/journal"}, foreign: []string{"github.com/go-sql-driver/mysql"}, because: "a storage knows a database, no queues and no other storage"},
	{dir: "internal/journal/mysqljournal/rows", ours: []string{"internal/journal", "internal/journal/mysqljournal", "internal/queue"}, because: "it says to a storage what records mean for its tables, so that neither the storage nor the core has to know"},
	{dir: "internal/journal/mysqljournal/tenure", ours: []string{"internal/journal"}, because: "whose turn it is at some tables, whatever those are and whoever elects"},
	{dir: "internal/journal/journaltest", ours: []string{"internal/journal"}, because: "the same suite is for every storage"},
	{dir: "internal/cluster/placement", because: "who has what is arithmetic over numbers, whatever they stand for"},
	{dir: "internal/cluster", ours: []string{"internal/cluster/placement", "internal/journal", "internal/spare"}, foreign: []string{"go.etcd.io/raft/v3", "google.golang.org/protobuf/proto"}, because: "it makes a journal of Raft and of a node's log, whichever that is"},
	{dir: "internal/cluster/member", ours: []string{"internal/cluster", "internal/cluster/placement", "internal/vfs", "wire"}, because: "it says who the members are, and asks for what has to be kept or done through functions that it is given"},
	{dir: "internal/cluster/transport", ours: []string{"internal/spare"}, because: "it carries bytes between machines, whatever they say"},
	{dir: "internal/relay", because: "it carries messages between nodes, whatever they say, and whoever says who the nodes are"},
	{dir: "internal/broker", ours: []string{"internal/queue", "internal/journal", "internal/spare", "wire"}, because: "it works with any journal, so it names none of the storages"},
	{dir: "internal/outbox", ours: []string{"internal/broker", "wire"}, because: "it is a client of the broker within the process, and knows neither the database nor what a publish means"},
	{dir: "client/outbox", because: "whoever writes to the outbox needs his database and nothing else"},
	{dir: "internal/auth", ours: []string{"wire"}, foreign: []string{"github.com/xdg-go/scram"}, because: "who may do what is decided from names alone; what is kept and sent goes through functions that it is given"},
	{dir: "internal/audit", ours: []string{"wire"}, because: "it writes down what it is told"},
	{dir: "internal/server", ours: []string{"internal/broker", "internal/auth", "internal/spare", "wire"}, because: "it moves bytes between connections and the broker and decides nothing; who is connected is asked of auth"},
	{dir: "internal/config", foreign: []string{"go.yaml.in/yaml/v3"}, because: "settings are names and values; it does not know what they do"},
	{dir: "internal/certs", because: "files with certificates, whoever uses them"},
	{dir: "internal/admin", ours: []string{"internal/broker"}, foreign: []string{"github.com/prometheus"}, because: "it shows what the broker says and changes nothing"},
	{dir: "internal/admin/page", ours: []string{"internal/admin", "wire"}, because: "it shows what it is given, and asks for changes as every client does"},
	{dir: "internal/loadgen", ours: []string{"wire"}, foreign: []string{"github.com/HdrHistogram/hdrhistogram-go", "golang.org/x/sys"}, because: "it measures a server from outside, so it must not know one"},
	{dir: "internal/sim", ours: []string{"internal/broker", "internal/cluster", "internal/cluster/placement", "internal/queue", "internal/journal", "internal/journal/filejournal", "internal/vfs", "internal/wal", "wire"}, foreign: []string{"go.etcd.io/raft/v3/raftpb"}, because: "it runs what production runs, over a disk and a clock of its own, without sockets"},
	{dir: "internal/tidy", because: "it reads sources and imports only for its tests"},
	{dir: "cmd/gmq", below: true, ours: []string{anything}, foreign: []string{anything}, because: "it puts everything together"},
	{dir: "examples", below: true, ours: []string{"client", "examples"}, because: "what an example needs, everybody else must have too"},
	{dir: "deploy/sbom", because: "it reads any Go binary, and knows nothing of what is in it"},
	{dir: "adapters", below: true, ours: []string{"client"}, foreign: []string{anything}, because: "an adapter is a module of its own, a client like others with somebody else's framework; only those who import it pay for that"},
	{dir: "test", below: true, ours: []string{anything}, foreign: []string{anything}, because: "it checks everything"},
}

// testOnly are the packages that nothing outside of tests may import.
var testOnly = []string{"internal/journal/journaltest", "internal/sim", "internal/tidy", "test"}

func TestArrows(t *testing.T) {
	for _, f := range sources(t).code {
		if f.test {
			continue
		}
		room := -1
		for i, r := range rooms {
			if f.dir == r.dir || r.below && within(f.dir, r.dir) {
				room = i
			}
		}
		if room < 0 {
			t.Errorf("%s: %s has no line in the table of rooms; add one and say why it may import what it imports", f.name, f.dir)
			continue
		}
		r := rooms[room]
		for _, path := range f.imports() {
			ours, isOurs := strings.CutPrefix(path, module+"/")
			switch {
			case isOurs && r.dir != "test" && slices.ContainsFunc(testOnly, func(dir string) bool { return within(ours, dir) }):
				t.Errorf("%s imports %s, which is for tests only", f.name, ours)
			case isOurs && !allows(r.ours, ours, r.below):
				t.Errorf("%s must not import %s: %s", f.name, ours, r.because)
			case !isOurs && isForeign(path) && !allows(r.foreign, path, true):
				t.Errorf("%s must not import %s: %s", f.name, path, r.because)
			}
		}
	}
}

func allows(allowed []string, path string, below bool) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		return a == anything || a == path || below && within(path, a)
	})
}

// isForeign goes by the dot in the first element, which no path of the standard library has.
func isForeign(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".")
}

// The core can be run from a seed and replayed on every machine only if
// nothing but its input decides what it does.
func TestTheCoreIsPure(t *testing.T) {
	for _, f := range sources(t).code {
		if f.dir != "internal/queue" || f.test {
			continue
		}
		for _, path := range f.imports() {
			for _, banned := range []string{"os", "net", "io/fs", "sync", "math/rand", "crypto/rand", "log", "syscall", "runtime", "unsafe", "context"} {
				if within(path, banned) {
					t.Errorf("%s imports %s: the core does no I/O, has one goroutine and knows no chance", f.name, path)
				}
			}
		}
	}
}
