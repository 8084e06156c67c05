package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/broker"
	"github.com/gmq/gmq/internal/cluster"
	"github.com/gmq/gmq/internal/cluster/member"
	"github.com/gmq/gmq/internal/journal"
	"github.com/gmq/gmq/internal/journal/filejournal"
	"github.com/gmq/gmq/internal/vfs"
)

func newClusterRecover(g *globals) *cobra.Command {
	var dir string
	var yes, incomplete bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make a server that is alone of a node whose cluster is lost",
		Long: `Recover is the way out when a majority of the nodes is lost for good, and for a data directory of a node that was restored from a
backup. It works on the data directory of a server that is stopped. Without --yes it only says what it
would do.

The server is alone afterwards, with all that this node has, and others can join it. What the lost
nodes had confirmed and this one did not have is lost. What was never confirmed may be there. The other nodes of the old
cluster must not be started again: they would still take each other for it. Choose the node that
has most: compare the "last" of each of them.

A node of a cluster with more nodes than cluster.replicas does not have all groups. With --incomplete a server is made of it all the
same, with the queues of the groups that it has; so each of several nodes can be made a server with its part.`,
		Example: `  gmq cluster recover --data /var/lib/gmq
  gmq cluster recover --data /var/lib/gmq --yes`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       local,
		RunE:              func(cmd *cobra.Command, _ []string) error { return recoverNode(cmd, g, dir, yes, incomplete) },
	}
	dataFlag(cmd, &dir)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().BoolVar(&incomplete, "incomplete", false, "also where this node does not have all groups: without the queues of the others")
	return cmd
}

// A recovered is what is told of a recovery.
type recovered struct {
	Node    string   `json:"node,omitempty"`
	Others  []string `json:"others"`
	Groups  int      `json:"groups"`
	Last    uint64   `json:"last"`    // entries of all groups
	Unknown uint64   `json:"unknown"` // of them nothing here says that they were committed
	Empty   int      `json:"empty"`   // groups of which this node was never given anything
	Done    bool     `json:"done"`
}

func recoverNode(cmd *cobra.Command, g *globals, dir string, yes, incomplete bool) error {
	fsys := vfs.OS()
	if _, err := os.Stat(filepath.Join(dir, "VERSION")); err != nil { // opening would make one
		return fmt.Errorf("there is no journal in %s: %w", dir, err)
	}
	info, err := member.Read(fsys, dir)
	if err != nil {
		return err
	}
	r := &recovered{Node: info.Name, Others: []string{}}
	for _, n := range info.Nodes {
		if n.ID != info.ID {
			r.Others = append(r.Others, n.Name)
		}
	}
	if err := endGroups(fsys, dir, r, false); err != nil {
		return journalError(dir, err)
	}
	enough := r.Empty == 0 || incomplete && r.Empty < r.Groups
	if yes && enough && (r.Groups > 0 || info.Member) {
		// First of all it must not start as the member that it was: half of its groups may have ended then.
		if err := member.Retire(fsys, dir); err != nil {
			return err
		}
		if err := endGroups(fsys, dir, &recovered{}, true); err != nil {
			return journalError(dir, err)
		}
		if err := member.Forget(fsys, dir); err != nil {
			return err
		}
		r.Done = true
	}
	if g.json() {
		err = printJSON(cmd.OutOrStdout(), r)
	} else {
		err = r.text(cmd.OutOrStdout())
	}
	switch {
	case err != nil:
	case !enough && r.Empty < r.Groups:
		err = fmt.Errorf("this node has %d of the cluster's %d groups, and what it lacks would be lost; say --incomplete if you mean that", r.Groups-r.Empty, r.Groups)
	case !enough:
		err = errors.New("this node has joined and was never given what the others have: nothing can be made of it")
	case r.Groups == 0 && !info.Member:
		err = errors.New("this is no node of a cluster; there is nothing to do")
	case !yes:
		err = errors.New("nothing has been changed; make a copy of the directory, see to it that the other nodes do not start again, then say --yes")
	}
	return err
}

// endGroups looks at the groups of a data directory, and ends them where it is to.
func endGroups(fsys vfs.FS, dir string, r *recovered, do bool) (err error) {
	log, err := filejournal.Open(fsys, dir, filejournal.Options{Sync: true, Shards: broker.Shards})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	host, err := cluster.New(cluster.Config{ID: 1, Groups: broker.Shards, Send: func(uint64, []byte) {}, Wake: func() {}}) // it is never run
	if err != nil {
		return err
	}
	for i := range broker.Shards {
		woken := make(chan struct{}, 1)
		j := host.Journal(i, func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		}, func(wake func()) cluster.Log { return log.Replica(i, wake) })
		err := j.Replay(func([]byte) error { return nil }, func(journal.Ref, []byte) error { return nil })
		if err != nil {
			return err
		}
		e := j.Ending()
		if !e.Group {
			continue
		}
		r.Groups++
		r.Last += e.Last
		r.Unknown += e.Unknown
		if e.Empty {
			r.Empty++
		}
		if do {
			if err := j.End(woken); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *recovered) text(w io.Writer) error {
	name := r.Node
	if name == "" {
		name = "no name: the directory does not say what its node was"
	}
	out := fmt.Sprintf("node             %s\nother nodes      %s\ngroups           %d\nlast             %d\nnot known to be committed %d\n", name, orDash(strings.Join(r.Others, ", ")), r.Groups, r.Last, r.Unknown)
	if r.Empty > 0 {
		out += fmt.Sprintf("groups that it lacks %d\n", r.Empty)
	}
	if r.Done {
		out += "The server is alone now. Start it, check what is there, and let others join: gmq cluster token\n"
	}
	_, err := io.WriteString(w, out)
	return err
}
