package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/wire"
)

// publishTopic speaks the protocol itself, a message at a time: the client knows queues only.
func publishTopic(ctx context.Context, cmd *cobra.Command, g *globals, f *pubFlags, src source, headers map[string]string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", g.address())
	if err != nil {
		return g.cannotConnect(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		body, line, err := src()
		if err == io.EOF {
			return nil
		}
		var published topicReply
		if err == nil {
			published, err = sendTopic(conn, in, g, f, body, headers)
		}
		if err != nil {
			return &refusal{line, inWords(unwrapRefusal(err))}
		}
		if g.json() {
			err = printJSON(cmd.OutOrStdout(), published)
		} else if onTerminal(cmd.ErrOrStderr()) {
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "published to %s, in %s\n", f.topic, plural(published.Queues, "queue"))
		}
		if err != nil {
			return err
		}
	}
}

// topicReply is what the server says of a message to a topic.
type topicReply struct {
	Queues uint64 `json:"queues"`
	Stored string `json:"stored,omitempty"`
}

func sendTopic(conn net.Conn, in *bufio.Reader, g *globals, f *pubFlags, body any, headers map[string]string) (topicReply, error) {
	b := wire.AppendString([]byte(`{"id":1,"op":"publish","topic":`), f.topic)
	b = f.message.appendTo(b)
	if len(headers) > 0 {
		text, err := json.Marshal(headers)
		if err != nil {
			return topicReply{}, err
		}
		b = append(append(b, `,"headers":`...), text...)
	}
	switch v := body.(type) {
	case []byte:
		b = base64.StdEncoding.AppendEncode(append(b, `,"encoding":"base64","body":"`...), v)
		b = append(b, '"')
	case json.RawMessage:
		for _, c := range append(append(b, `,"body":`...), v...)[len(b):] {
			if c == '\n' || c == '\r' { // in JSON, these stand between tokens only
				c = ' '
			}
			b = append(b, c)
		}
	case string:
		b = wire.AppendString(append(b, `,"body":`...), v)
	}
	if err := conn.SetDeadline(time.Now().Add(g.timeout)); err != nil {
		return topicReply{}, err
	}
	if _, err := conn.Write(append(b, "}\n"...)); err != nil {
		return topicReply{}, err
	}
	return readTopicReply(in)
}

// readTopicReply passes over what the server says unasked.
func readTopicReply(in *bufio.Reader) (topicReply, error) {
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return topicReply{}, err
		}
		var f wire.Frame
		if err := wire.DecodeFrame(line, &f); err != nil {
			return topicReply{}, err
		}
		switch {
		case !f.IsReply:
		case f.OK:
			return topicReply{f.Queues, f.Stored}, nil
		case f.Err == nil:
			return topicReply{}, errors.New("the server refused and did not say why")
		default:
			return topicReply{}, &gmq.Error{Code: f.Err.Code, Message: f.Err.Message, Retryable: f.Retryable}
		}
	}
}

func unwrapRefusal(err error) error {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.err
	}
	return err
}
