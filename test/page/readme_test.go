package page

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// Somebody does what README says, and finds on the page what it says is there.
func TestReadme(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("nc"); err != nil {
		t.Skip(err)
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Five minutes\n")
	_, block, _ := strings.Cut(section, "```sh\nmake build\n")
	block, rest, found := strings.Cut(block, "```")
	if !found || !strings.Contains(rest, "*Needs attention*") || !strings.Contains(rest, "*Redrive…*") {
		t.Fatal("README has no five minutes any more")
	}
	s := harness.Start(t, "admin: 127.0.0.1:0\n")
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-euc", strings.NewReplacer("bin/gmq", harness.Exe(t), "127.0.0.1 4567", host+" "+port).Replace(block))
	cmd.Env = append(os.Environ(), "GMQ_SERVER="+s.Addr)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := open(t, 1440, 900, false)
	p.visit(s, "")
	p.until(`[...document.querySelectorAll("#attention tbody tr")].some(r => r.innerText.includes("jobs") && r.innerText.includes("nobody consumes it") && r.innerText.includes("39"))`)
	p.picture("readme-overview")
	p.button("#attention", "jobs.dlq")
	p.says("#messages td", "no such customer")
	p.picture("readme-dead")
	p.button("#messages tbody", "1")
	p.says("#died", "† died in jobs after 1 attempt: max_deliveries: nack: no such customer.")
	p.picture("readme-message")
	p.button("#died", "jobs") // what had happened to it there
	p.says("dialog .history", "dead: max_deliveries: nack: no such customer")
	p.visit(s, "queues/jobs.dlq/1")
	p.button("dialog", "Close")
	p.click("#redrive")
	p.button("dialog", "Go on…")
	p.says("dialog", "Move")
	p.button("dialog", "Redrive")
	p.notes("1 message moved", false)
	p.visit(s, "queues/jobs")
	p.until(`document.querySelector("#now dd").textContent === "40"`)
}
