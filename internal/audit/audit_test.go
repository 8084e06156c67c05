package audit

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gmq/gmq/wire"
)

func TestRecords(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := New(slog.New(slog.NewJSONHandler(&out, nil)), func() time.Time { return now })
	l.Note("ann", "10.0.0.7:1", wire.OpQueuePurge, "orders", nil)
	l.Note("", "10.0.0.7:1", wire.OpHello, "line\nbreak", wire.Errorf(wire.CodeUnauthenticated, "no"))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatal(lines)
	}
	for i, want := range []map[string]any{
		{"level": "INFO", "audit": true, "op": "queue.purge", "user": "ann", "from": "10.0.0.7:1", "name": "orders", "result": "allowed"},
		{"level": "WARN", "audit": true, "op": "hello", "user": "", "name": "line\nbreak", "result": "unauthenticated"},
	} {
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s is %v, should be %v", k, got[k], v)
			}
		}
	}
}

// Who is refused cannot fill a disk; what was allowed is always written down, and what was left out is told.
func TestRefusalsAreBounded(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := New(slog.New(slog.NewJSONHandler(&out, nil)), func() time.Time { return now })
	no := wire.Errorf(wire.CodeForbidden, "no")
	for range 10 * atOnce {
		l.Note("eve", "x", wire.OpPublish, "q", no)
	}
	if n := strings.Count(out.String(), `"forbidden"`); n != atOnce {
		t.Errorf("%d records, should be %d", n, atOnce)
	}
	l.Note("ann", "x", wire.OpUserAdd, "bob", nil)
	if !strings.Contains(out.String(), `"user.add"`) || strings.Contains(out.String(), "left_out") {
		t.Errorf("…%s", out.String()[out.Len()-300:])
	}
	out.Reset()
	now = now.Add(time.Second)
	for range 10 * perSecond {
		l.Note("eve", "x", wire.OpPublish, "q", no)
	}
	if n := strings.Count(out.String(), `"forbidden"`); n != perSecond || !strings.Contains(out.String(), `"left_out":4500`) {
		t.Errorf("%d records, should be %d: %.300s", n, perSecond, out.String())
	}
}

// What is allowed takes no room from refusals.
func TestAllowedTakesNoRoom(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := New(slog.New(slog.NewJSONHandler(&out, nil)), func() time.Time { return now })
	for range 2 * atOnce {
		l.Note("ann", "x", wire.OpQueuePurge, "q", nil)
	}
	l.Note("eve", "x", wire.OpPublish, "q", wire.Errorf(wire.CodeForbidden, "no"))
	if !strings.Contains(out.String(), `"forbidden"`) {
		t.Error("a refusal has no room after what was allowed")
	}
}
