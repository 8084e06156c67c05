package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/spf13/cobra"

	gmq "github.com/gmq/gmq/client"
)

// mostOwnIDs is how many messages pub gives ids of its own: a queue remembers a million at most, and refuses what comes beyond.
const mostOwnIDs = 250_000

// ids are the dedup ids that pub gives messages, so that it can send them again to another node of a cluster. They belong to the goroutine that feeds.
type ids struct {
	prefix string // "": it gives none
	n      int
}

// add appends the next id to the options of a message, where there is one.
func (i *ids) add(opts []gmq.PublishOption) []gmq.PublishOption {
	if i.prefix == "" || i.n == mostOwnIDs {
		return opts
	}
	i.n++
	return append(opts[:len(opts):len(opts)], gmq.DedupID(i.prefix+strconv.Itoa(i.n)))
}

// connectPub connects. Where the server is one of several, and it is lost, the client goes on with another one by itself; else the context
// ends. It gives ids where the caller has none. Closing waits for what is on its way, but not where the server was waited for in vain.
func connectPub(cmd *cobra.Command, g *globals, own bool) (c *gmq.Client, ctx context.Context, give *ids, closing func(vain bool), err error) {
	parent, end := context.WithCancelCause(cmd.Context())
	var others atomic.Bool // there are some to go to
	c, ctx, shut, err := g.connect(parent, func() {
		if others.Load() {
			fmt.Fprintf(cmd.ErrOrStderr(), "gmq: a connection to the cluster was lost; going on with another node\n")
			return
		}
		end(fmt.Errorf("the connection to %s was lost", g.address()))
	})
	if err != nil {
		end(nil)
		return nil, nil, nil, nil, err
	}
	give = &ids{}
	if others.Store(len(c.Hello().Nodes) > 1); others.Load() && !own {
		give.prefix = "gmq-pub-" + rand.Text() + "-"
	}
	return c, ctx, give, func(vain bool) {
		if vain {
			end(nil)
		}
		shut()
		end(nil)
	}, nil
}
