package schema

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
	"github.com/gmq/gmq/wire"
)

// A judge holds frames to the schema, strictly: what it does not know it does not take.
type judge struct {
	t     *testing.T
	find  func(string) interface{ Validate(any) error }
	asked map[string]string // operations by the ids of requests, as they were sent
	seen  map[string]int    // definitions that were used
}

func newJudge(t *testing.T) *judge {
	definition := compile(t, true)
	return &judge{t: t, find: func(name string) interface{ Validate(any) error } { return definition(name) }, asked: map[string]string{}, seen: map[string]int{}}
}

func (j *judge) hold(definition, line string) {
	j.t.Helper()
	j.seen[definition]++
	if err := j.find(definition).Validate(instance(j.t, line)); err != nil {
		j.t.Errorf("%s\n%v", line, err)
	}
}

// request holds a request to the schema, unless it is one that has to be refused.
func (j *judge) request(line string, refused bool) {
	j.t.Helper()
	var r struct {
		Op string
		ID json.RawMessage
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		j.t.Fatal(err)
	}
	j.asked[string(r.ID)] = r.Op
	if !refused {
		j.hold("request."+r.Op, line)
	}
}

// line holds what the server says to the schema of just that.
func (j *judge) line(line string) {
	j.t.Helper()
	var r struct {
		Op string
		ID json.RawMessage
		OK *bool
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		j.t.Fatal(err)
	}
	switch op := j.asked[string(r.ID)]; {
	case r.OK == nil:
		j.hold(r.Op, line)
	case !*r.OK:
		j.hold("error", line)
	case op == "":
		j.t.Errorf("nobody asked for %s", line)
	default:
		j.hold("reply."+op, line)
	}
}

// The frames in the description of the protocol were recorded from a real server.
func TestFramesOfTheDescription(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	j, frames := newJudge(t), 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, `"operation"`) { // the first protocol
			continue
		}
		if rest, ok := strings.CutPrefix(line, "> {"); ok {
			frames++
			j.request("{"+rest, false)
		} else if rest, ok := strings.CutPrefix(line, "< {"); ok {
			frames++
			j.line("{" + rest)
		}
	}
	if frames < 80 {
		t.Errorf("only %d frames were found", frames)
	}
}

// A conversation with a real server, in which every operation has its turn. What begins with ! is refused.
var conversation = []string{
	`{"op":"hello","client":"schema","protocol":1}`, `{"op":"ping"}`, `{"op":"server.info"}`,
	`{"op":"queue.create","queue":"a","max_messages":3,"retry":{"min":"1ms"},"ttl":"1h","lease":"1h"}`, `{"op":"queue.update","queue":"a","max_messages":0}`,
	`{"op":"publish","queue":"a","body":{"n":1},"headers":{"x":"y"},"key":"k","dedup_id":"1"}`, `{"op":"publish","queue":"a","body":1,"dedup_id":"1"}`,
	`{"op":"publish","queue":"a","messages":[{"body":"YWI=","encoding":"base64"},{"body":null,"priority":9},{"body":1,"dedup_id":"1"}],"stored":"memory"}`,
	`{"op":"publish","queue":"a","body":1,"delay":"1h"}`,
	`{"op":"queue.bind","queue":"a","topic":"t.*"}`, `{"op":"publish","topic":"t.x","body":1}`, `{"op":"publish","topic":"nobody","body":1}`, `{"op":"queue.info","queue":"a"}`,
	`{"op":"queue.peek","queue":"a"}`, `{"op":"receive","queue":"a","max":2}`, `{"op":"queue.peek","queue":"a","state":"leased"}`,
	`{"op":"queue.explain","queue":"a","seq":1}`, `{"op":"queue.explain","queue":"a","seq":3}`, `{"op":"extend","queue":"a","seq":3,"lease":"2h"}`,
	`{"op":"ack","queue":"a","seq":[1,3]}`, `{"op":"queue.explain","queue":"a","seq":1}`, `{"op":"queue.reschedule","queue":"a","seq":4,"delay":"2h"}`,
	`{"op":"queue.explain","queue":"a","seq":4}`, `{"op":"queue.cancel","queue":"a","seq":4}`, `{"op":"receive","queue":"a","max":9}`,
	`{"op":"nack","queue":"a","seq":2,"dead":true,"reason":"poison"}`, `{"op":"nack","queue":"a","seq":5,"delay":"0s"}`, `{"op":"queue.explain","queue":"a","seq":5}`,
	`{"op":"queue.peek","queue":"a.dlq"}`, `{"op":"queue.redrive","queue":"a.dlq"}`, `{"op":"queue.list","prefix":"a"}`,
	`!{"op":"extend","queue":"a","seq":99,"lease":"1s"}`, `!{"op":"publish","queue":"a","body":1,"stored":"quorum"}`, `!{"op":"nonsense"}`, `!{"op":"receive","queue":"gone","create":false}`,
	`{"op":"subscribe","queue":"a","credit":100}`, `{"op":"subscribe","topic":"t.>"}`, `{"op":"publish","topic":"t.y","body":[1]}`,
	`{"op":"queue.pause","queue":"a"}`, `{"op":"queue.resume","queue":"a"}`, `{"op":"unsubscribe","sub":2,"drain":true}`, `{"op":"unsubscribe","sub":2}`, `{"op":"queue.unbind","queue":"a","topic":"t.*"}`,
	`{"op":"queue.purge","queue":"a"}`, `{"op":"queue.delete","queue":"a"}`,
	`{"op":"user.add","user":"ann","password":"correct horse","allow":["publish:orders.*"]}`, `{"op":"user.grant","user":"ann","deny":["publish:orders.secret"]}`,
	`{"op":"user.list"}`, `{"op":"user.password","user":"ann","password":"battery staple"}`, `{"op":"token.add","name":"ci","allow":["publish:ci.>"],"ttl":"1h"}`,
	`{"op":"token.add","name":"hers","user":"ann"}`, `{"op":"token.list"}`, `{"op":"auth.check","user":"ann","verb":"publish","name":"orders.secret"}`,
	`{"op":"cluster.leaders","queue":"a"}`, `{"op":"cluster.status"}`, `{"op":"cluster.token"}`, `{"op":"cluster.status"}`, `{"op":"cluster.leaders"}`, `{"op":"cluster.leaders","queue":"a"}`, `!{"op":"cluster.remove","name":"n9"}`, `!{"op":"cluster.transfer"}`,
	`{"op":"hello","user":"ann","password":"battery staple"}`, `{"op":"token.remove","name":"ci"}`, `{"op":"user.add","user":"bob"}`, `{"op":"user.remove","user":"bob"}`,
}

// build makes the server's binary, which belongs to another module than this test.
func build(t *testing.T) string {
	t.Helper()
	if exe := os.Getenv("GMQ_EXE"); exe != "" {
		return exe
	}
	exe := filepath.Join(t.TempDir(), "gmq")
	cmd := exec.Command("go", "build", "-o", exe, "./cmd/gmq")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return exe
}

func TestFramesOfARealServer(t *testing.T) {
	t.Setenv("GMQ_EXE", build(t))
	server := harness.Start(t, "cluster: {listen: 127.0.0.1:0}\n")
	conn := server.Dial(t)
	j := newJudge(t)
	for i, line := range conversation {
		line, refused := strings.CutPrefix(line, "!")
		id, _ := json.Marshal(i)
		line = strings.Replace(line, `{"op":`, `{"id":`+string(id)+`,"op":`, 1)
		j.request(line, refused)
		reply := conn.Do("%s", line)
		if reply.Bool("ok") == refused {
			t.Errorf("%s\n%s", line, reply.Raw)
		}
		j.line(reply.Raw)
	}
	pushes := conn.Settle()
	server.Term()
	for _, pushed := range append(pushes, conn.Ended()...) {
		j.line(pushed.Raw)
	}
	for _, op := range wire.Ops() {
		if op == wire.OpClusterRemove || op == wire.OpClusterTransfer {
			continue // these need another node
		}
		if replies()[op] != nil && j.seen["reply."+op.String()] == 0 {
			t.Errorf("%s is not in the conversation", op)
		}
	}
	for _, name := range []string{"error", "message", "unsubscribed", "closing"} {
		if j.seen[name] == 0 {
			t.Errorf("the server never said %s", name)
		}
	}
}
