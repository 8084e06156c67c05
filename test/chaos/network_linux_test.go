package chaos_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A network is a bridge with the clients at it, and each node at the other end of a cable, in a network namespace of its own.
//
// What a node sends to another one is lost by having it sent to an address of nobody, a sink: for the node that is silence, as behind a
// cut cable, and no error. What arrives in the sinks says that it was so.
type network struct {
	nodes int
}

const clientsIP = "10.77.0.100"

func ipOf(node int) string    { return fmt.Sprintf("10.77.0.%d", node+1) }
func macOf(node int) string   { return fmt.Sprintf("02:00:00:00:00:%02x", node+1) }
func sinkMAC(node int) string { return fmt.Sprintf("02:00:00:00:01:%02x", node+1) }
func spaceOf(node int) string { return fmt.Sprintf("n%d", node+1) }

// newNetwork makes one, in the process's own namespace. It goes with the process.
func newNetwork(nodes int) (*network, error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("%w; it comes with the package iproute2", err)
	}
	n := &network{nodes: nodes}
	here := []string{"link set lo up", "link add br0 type bridge", "addr add " + clientsIP + "/24 dev br0", "link set br0 up", "netns add sink"}
	for i := range nodes {
		here = append(here, "netns add "+spaceOf(i),
			fmt.Sprintf("link add c%d type veth peer name eth0 address %s netns %s", i+1, macOf(i), spaceOf(i)), fmt.Sprintf("link set c%d master br0 up", i+1),
			fmt.Sprintf("link add k%d type veth peer name s%d address %s netns sink", i+1, i+1, sinkMAC(i)), fmt.Sprintf("link set k%d master br0 up", i+1))
	}
	if err := ip("", here...); err != nil {
		return nil, err
	}
	for i := range nodes {
		if err := ip("sink", fmt.Sprintf("link set s%d up", i+1)); err != nil {
			return nil, err
		}
		// Nothing else goes into a node's sink, so that it counts what was lost.
		if out, err := exec.Command("bridge", "fdb", "replace", sinkMAC(i), "dev", fmt.Sprintf("k%d", i+1), "master", "static").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("bridge fdb replace: %w: %s", err, out)
		}
		if err := ip(spaceOf(i), "link set lo up", "addr add "+ipOf(i)+"/24 dev eth0", "link set eth0 up"); err != nil {
			return nil, err
		}
	}
	return n, n.heal()
}

// ip has lines carried out in a network namespace, "" for that of the process.
func ip(space string, lines ...string) error {
	args := []string{"-batch", "-"}
	if space != "" {
		args = append([]string{"-n", space}, args...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// lose has what a node sends to others be lost from now on.
func (n *network) lose(from int, to ...int) error {
	var lines []string
	for _, other := range to {
		lines = append(lines, fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", ipOf(other), sinkMAC(from)))
	}
	return ip(spaceOf(from), lines...)
}

// heal has everything arrive again.
func (n *network) heal() error {
	for i := range n.nodes {
		var lines []string
		for other := range n.nodes {
			if other != i {
				lines = append(lines, fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", ipOf(other), macOf(other)))
			}
		}
		if err := ip(spaceOf(i), lines...); err != nil {
			return err
		}
	}
	return nil
}

// cable pulls a node's cable, or puts it in again.
func (n *network) cable(node int, in bool) error {
	state := "down"
	if in {
		state = "up"
	}
	return ip("", fmt.Sprintf("link set c%d %s", node+1, state))
}

// lost is how many packets of a node were lost so far.
func (n *network) lost(node int) (int, error) {
	text, err := os.ReadFile("/proc/thread-self/net/dev") // self would be the first thread, which may have gone into a node (within)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if fields := strings.Fields(rest); name == fmt.Sprintf("k%d", node+1) && len(fields) > 9 {
			return strconv.Atoi(fields[9]) // packets that the bridge has sent into it
		}
	}
	return 0, fmt.Errorf("/proc/thread-self/net/dev does not have k%d", node+1)
}

// within runs f by a thread that is in a node's network, and so are the processes that it starts.
func (n *network) within(node int, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine, as nobody else could use it
		done <- func() error {
			space, err := os.Open("/run/netns/" + spaceOf(node))
			if err != nil {
				return err
			}
			defer space.Close()
			if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("setns: %w", err)
			}
			return f()
		}()
	}()
	return <-done
}
