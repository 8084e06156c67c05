// Package page looks at the admin page in a real browser: Chromium without a screen, driven over its own protocol. It
// is a module of its own, so that nobody else needs what drives the browser.
//
// It knows what somebody sees and clicks, and nothing of how the page is made.
package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/gmq/gmq/test/harness"
)

// patience is how long something may take that must come.
const patience = harness.Patience

var browser context.Context // nil: there is none

func TestMain(m *testing.M) { os.Exit(tests(m)) }

func tests(m *testing.M) int {
	os.Setenv("GMQ_ADMIN_PASSWORD", secret) // of every server that is started here
	if os.Getenv("GMQ_EXE") == "" {
		dir, err := os.MkdirTemp("", "gmq-page-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", filepath.Join(dir, "gmq"), "./cmd/gmq")
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		os.Setenv("GMQ_EXE", filepath.Join(dir, "gmq"))
	}
	if exe := chromium(); exe != "" {
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(exe), chromedp.NoSandbox, chromedp.Flag("force-prefers-reduced-motion", true), chromedp.WindowSize(1440, 900))
		allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
		defer stop()
		var end context.CancelFunc
		browser, end = chromedp.NewContext(allocator)
		defer end()
		if err := chromedp.Do(browser, chromedp.Navigate("about:blank")); err != nil {
			fmt.Fprintln(os.Stderr, "chromium:", err)
			return 1
		}
	}
	return harness.Main(m)
}

// chromium is the browser's path; "" where there is none.
func chromium() string {
	for _, name := range []string{os.Getenv("GMQ_TEST_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if exe, err := exec.LookPath(name); name != "" && err == nil {
			return exe
		}
	}
	return ""
}

// A tab is a page that somebody has open.
type tab struct {
	t   testing.TB
	ctx context.Context

	mu      sync.Mutex // guards the following
	faults  []string   // what the console says is wrong
	forgive string
}

// open opens a tab of that size, in a browser that knows nothing yet.
func open(t testing.TB, width, height int64, dark bool) *tab {
	t.Helper()
	if browser == nil {
		t.Skip("there is no Chromium here (Debian: apt-get install chromium); GMQ_TEST_CHROMIUM says where another one is")
	}
	p := &tab{t: t}
	ctx, end := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	t.Cleanup(end)
	p.ctx = ctx
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil { // the first context is the tab's for good, so it has no end
		t.Fatal(err)
	}
	_, failed := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	_, failed2 := chromedp.Call(ctx, runtime.Enable, cdp.Empty{})
	_, failed3 := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600})
	_, failed4 := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	_, failed5 := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: keepNotes})
	if err := errors.Join(failed, failed2, failed3, failed4, failed5); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, f := range p.faults {
			if p.forgive == "" || !strings.Contains(f, p.forgive) {
				t.Errorf("the console: %s", f)
			}
		}
	})
	return p
}

// listen notes what goes wrong in the page.
func (p *tab) listen(event any) {
	fault := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		fault = fmt.Sprintf("%+v", e.ExceptionDetails)
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" {
			fault = fmt.Sprintf("%s %+v", e.Type, e.Args)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == "error" || e.Entry.Level == "warning" {
			fault = e.Entry.Text + " " + e.Entry.URL
		}
	}
	if fault != "" {
		p.mu.Lock()
		p.faults = append(p.faults, fault)
		p.mu.Unlock()
	}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	for _, a := range actions {
		run(p, a)
	}
}

// run does one thing to a page, or ends the test with what the page says.
func run[T any](p *tab, a chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	is, err := chromedp.Run(ctx, a)
	if err != nil {
		html, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Fatalf("%v; the page says:\n%s\n%v", err, html, p.faults)
	}
	return is
}

// eval gives the value of an expression.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](expression))
}

// until waits until an expression is true.
func (p *tab) until(expression string) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("waited for %s", expression)
		}
	}()
	run(p, chromedp.Evaluate[bool]("new Promise(done => { const look = () => { let is = false; try { is = "+expression+" } catch { /* not there yet */ }; is ? done(true) : setTimeout(look, 20) }; look() })", chromedp.EvalAwaitPromise))
}

// click clicks on what a selector finds, once it is there and nothing lies over it, as a dialog that is still closing does. It looks
// and clicks in one go: between two questions to the browser numbers may come, and move what is below them.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`(e => {
		if (document.querySelector("dialog[open]")) return false
		e.scrollIntoView({ block: "nearest" })
		const at = e.getBoundingClientRect()
		if (!e.contains(document.elementFromPoint(at.x + at.width / 2, at.y + at.height / 2))) return false
		e.click()
		return true
	})(document.querySelector(%q))`, selector))
}

// button clicks on the button, or link, with that text, inside of what a selector finds.
func (p *tab) button(within, text string) {
	p.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll(%q)].flatMap(e => [...e.querySelectorAll("button, a")]).find(b => b.textContent.trim() === %q && b.offsetParent)`, within, text)
	p.until("(" + find + ").click() === undefined")
}

// write writes into what a selector finds.
func (p *tab) write(selector, text string) {
	p.t.Helper()
	find := fmt.Sprintf("document.querySelector(%q)", selector)
	p.until(find)
	eval[bool](p, find+`.value = "", true`)
	p.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// text is what stands in what a selector finds.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return run(p, chromedp.Text(chromedp.CSS(selector), chromedp.NodeVisible))
}

// keepNotes has a page remember what it tells in passing: it takes that away after some seconds, and on a busy machine nobody has looked by then.
const keepNotes = `addEventListener("DOMContentLoaded", () => {
	globalThis.told = []
	if (document.getElementById("notes")) new MutationObserver(all => { for (const m of all) for (const n of m.addedNodes) told.push({ bad: n.classList.contains("bad"), text: n.textContent }) })
		.observe(document.getElementById("notes"), { childList: true })
})`

// notes waits until the page has told something in passing; a refusal, if it is to be bad.
func (p *tab) notes(text string, bad bool) {
	p.t.Helper()
	p.until(fmt.Sprintf(`told.some(n => n.bad === %v && n.text.includes(%s))`, bad, quote(text)))
}

// says waits until a text stands in what a selector finds.
func (p *tab) says(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`[...document.querySelectorAll(%q)].some(e => e.textContent.includes(%s))`, selector, quote(text)))
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// visit goes to a place of the page.
func (p *tab) visit(s *harness.Server, place string) {
	p.t.Helper()
	p.do(chromedp.Navigate("http://" + s.Admin + "/#/" + place))
}

// login logs in where the page asks for it.
func (p *tab) login(user, password string) {
	p.t.Helper()
	p.write("input[autocomplete=username]", user)
	p.write("input[type=password]", password)
	p.button("form.login", "Log in")
	p.until(`document.querySelector("#top nav")`)
}

// picture keeps what is to be seen, where somebody wants to look at it (GMQ_TEST_PICTURES, a directory).
func (p *tab) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("GMQ_TEST_PICTURES")
	if dir == "" {
		return
	}
	png := run(p, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		p.t.Fatal(err)
	}
}
