package loadgen

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/gmq/gmq/wire"
)

// askedAtOnce is how many requests of the control are on their way at a time.
const askedAtOnce = 100

// A control is the connection on which a run makes, counts and removes its queues. One goroutine uses it.
type control struct {
	nc       net.Conn
	r        *bufio.Reader
	patience time.Duration
}

// hello is what the server says of itself.
type hello struct {
	Version         string `json:"version"`
	Node            string `json:"node"`
	MaxMessageBytes int64  `json:"max_message_bytes"`
}

func newControl(nc net.Conn, patience time.Duration) *control {
	return &control{nc: nc, r: bufio.NewReaderSize(nc, 64<<10), patience: patience}
}

// each sends n requests, whose members request gives, and hands over each outcome as it comes: the reply, or the
// server's error. It ends with the first error of got.
func (c *control) each(ctx context.Context, n int, request func(i int) string, got func(i int, reply []byte, err error) error) error {
	for from := 0; from < n; from += askedAtOnce {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		upTo := min(n, from+askedAtOnce)
		var b []byte
		for i := from; i < upTo; i++ {
			b = fmt.Appendf(b, `{"id":%d,%s}`+"\n", i, request(i))
		}
		c.nc.SetDeadline(time.Now().Add(c.patience))
		if _, err := c.nc.Write(b); err != nil {
			return err
		}
		for range upTo - from {
			line, err := c.r.ReadBytes('\n')
			if err != nil {
				return err
			}
			var reply struct {
				ID    int         `json:"id"`
				OK    bool        `json:"ok"`
				Error *wire.Error `json:"error"`
			}
			if err := json.Unmarshal(line, &reply); err != nil || !reply.OK && reply.Error == nil {
				return fmt.Errorf("the server sent %.200q", line)
			}
			var refused error
			if reply.Error != nil {
				refused = reply.Error
			}
			if err := got(reply.ID, line, refused); err != nil {
				return err
			}
		}
	}
	return nil
}

// ask sends one request and reads its reply into v.
func (c *control) ask(ctx context.Context, request string, v any) error {
	return c.each(ctx, 1, func(int) string { return request }, func(_ int, line []byte, err error) error {
		if err != nil {
			return err
		}
		return json.Unmarshal(line, v)
	})
}

// make creates the queues and tells which of them were not there before. One that was there must be empty: what
// is in it is somebody's.
func (c *control) make(ctx context.Context, queues []string, storage string) (made []string, err error) {
	missing, err := c.missing(ctx, queues)
	if err != nil {
		return nil, err
	}
	settings := ""
	if storage != "" {
		settings = fmt.Sprintf(`,"storage":%q`, storage)
	}
	err = c.each(ctx, len(missing), func(i int) string { return fmt.Sprintf(`"op":"queue.create","queue":%q%s`, missing[i], settings) },
		func(i int, _ []byte, err error) error {
			if err == nil {
				made = append(made, missing[i])
			}
			return err
		})
	return made, err
}

// missing gives those of the queues that are not there.
func (c *control) missing(ctx context.Context, queues []string) (missing []string, err error) {
	err = c.each(ctx, len(queues), func(i int) string { return fmt.Sprintf(`"op":"queue.info","queue":%q`, queues[i]) },
		func(i int, line []byte, err error) error {
			if code(err) == wire.CodeNotFound {
				missing = append(missing, queues[i])
				return nil
			}
			var info queueInfo
			if err == nil {
				err = json.Unmarshal(line, &info)
			}
			if err == nil && (info.messages() > 0 || info.Consumers > 0) {
				err = fmt.Errorf("queue %q holds %d messages and has %d consumers; this needs a queue of its own", queues[i], info.messages(), info.Consumers)
			}
			return err
		})
	return missing, err
}

// queueInfo is what a control wants to know of a queue.
type queueInfo struct {
	Counts    struct{ Ready, Delayed, Leased int64 }
	Consumers int
}

func (q *queueInfo) messages() int64 { return q.Counts.Ready + q.Counts.Delayed + q.Counts.Leased }

// bind binds each queue to a topic.
func (c *control) bind(ctx context.Context, queues []string, topic func(i int) string) error {
	return c.each(ctx, len(queues), func(i int) string {
		return fmt.Sprintf(`"op":"queue.bind","queue":%q,"topic":%q`, queues[i], topic(i))
	}, func(_ int, _ []byte, err error) error { return err })
}

// left is how many messages the queues hold.
func (c *control) left(ctx context.Context, queues []string) (n int64, err error) {
	err = c.each(ctx, len(queues), func(i int) string { return fmt.Sprintf(`"op":"queue.info","queue":%q`, queues[i]) },
		func(_ int, line []byte, err error) error {
			var info queueInfo
			if err == nil {
				err = json.Unmarshal(line, &info)
			}
			n += info.messages()
			return err
		})
	return n, err
}

// remove deletes queues. One that is gone already is none to worry about.
func (c *control) remove(ctx context.Context, queues []string) error {
	var failed []error
	err := c.each(ctx, len(queues), func(i int) string { return fmt.Sprintf(`"op":"queue.delete","queue":%q`, queues[i]) },
		func(i int, _ []byte, err error) error {
			if err != nil && code(err) != wire.CodeNotFound && len(failed) < faultsKept {
				failed = append(failed, fmt.Errorf("queue %s: %w", queues[i], err))
			}
			return nil
		})
	if err = errors.Join(append(failed, err)...); err != nil {
		return fmt.Errorf("not every queue of this run could be removed: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

func code(err error) wire.Code {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Code
	}
	return ""
}
