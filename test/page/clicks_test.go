package page

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/gmq/gmq/test/harness"
)

// desk is a tab in which the administrator of a shop has logged in.
func desk(t *testing.T) (*tab, *harness.Server) {
	t.Helper()
	t.Parallel()
	s := shop(t)
	p := open(t, 1440, 900, false)
	p.visit(s, "")
	p.login("admin", secret)
	return p, s
}

// admin is a connection as the administrator.
func admin(t *testing.T, s *harness.Server) *harness.Conn {
	t.Helper()
	c := s.Dial(t)
	c.OK(`{"op":"hello","user":"admin","password":"%s"}`, secret)
	return c
}

// Somebody finds the queue that has dead letters, the poisoned message in it and what it died of, and moves it back.
func TestPoisonedMessageIsFoundExplainedAndRedriven(t *testing.T) {
	p, s := desk(t)
	p.says("#attention", "dead letters")
	p.button("#attention", "orders.dlq")
	p.says("#messages td", "cannot be parsed: no such customer")
	p.write("#messages input[type=search]", "c001")
	p.until(`document.querySelectorAll("#messages tbody tr").length === 1`)
	p.button("#messages tbody", "2")
	p.says("#because", "nobody consumes queue orders.dlq")
	p.says("dialog dd", "orders")
	p.says("dialog pre", `"total": 11.50`)
	p.button("dialog", "Close")

	p.click("#redrive")
	p.says("dialog", "Mend first what they died of")
	p.write("dialog input[placeholder=all]", "1")
	p.button("dialog", "Go on…")
	p.says("dialog", "Move at most 1 message back into the queues they died in?")
	if n := admin(t, s).OK(`{"op":"queue.info","queue":"orders.dlq"}`).At("counts").Int("redriven"); n != 0 {
		t.Fatalf("%d messages were moved though nobody has been asked twice", n)
	}
	p.button("dialog", "Redrive")
	p.notes("1 message moved", false)
	if n := admin(t, s).OK(`{"op":"queue.info","queue":"orders.dlq"}`).At("counts").Int("redriven"); n != 1 {
		t.Errorf("%d messages were moved, not 1", n)
	}
}

// A message that is stuck is explained: here because somebody has leased another one of its key.
func TestStuckMessageIsExplained(t *testing.T) {
	p, s := desk(t)
	p.visit(s, "queues/orders")
	p.button("#messages .tabs", "Ready")
	p.until(`[...document.querySelectorAll("#messages tbody tr")].every(r => r.textContent.includes("ready")) && document.querySelector("#messages tbody tr")`)
	p.button("#messages tbody", "11")
	p.says("#because", "it waits behind message 4, which has the same key")
	p.button("dialog", "Close")
	p.button("#messages .tabs", "Leased")
	p.until(`document.querySelectorAll("#messages tbody tr").length === 4`)
	p.button("#messages tbody", "4")
	p.says("#because", "it is leased by")
	p.button("dialog", "Close")
	p.button("#messages .tabs", "Delayed")
	p.until(`document.querySelectorAll("#messages tbody tr").length === 1`)
	p.button("#messages tbody", "41")
	p.says("#because", "it is delayed until")
	p.button("dialog", "Deliver now")
	p.says("#because", "nobody consumes queue orders")
	p.button("dialog", "Cancel it…")
	p.button("dialog:last-of-type", "Go on…")
	p.write("dialog:last-of-type input", "41")
	p.button("dialog:last-of-type", "Cancel the message")
	p.notes("Message 41 is cancelled", false)
	if n := admin(t, s).OK(`{"op":"queue.info","queue":"orders"}`).At("counts").Int("cancelled"); n != 1 {
		t.Errorf("%d messages were cancelled, not 1", n)
	}
}

func TestQueueIsChanged(t *testing.T) {
	p, s := desk(t)
	c := admin(t, s)
	p.visit(s, "queues/orders")
	p.until(`document.querySelector("#settings dd")`)

	p.click("#publish") // what is published arrives byte for byte
	p.write("dialog textarea", `{"amount": 12345678901234567890.10}`)
	p.button("dialog", "Publish")
	p.notes("Message 42 is stored (disk)", false)
	if got := c.OK(`{"op":"queue.peek","queue":"orders","after":41}`).Each("messages")[0].Body(); got != `{"amount": 12345678901234567890.10}` {
		t.Errorf("the body is %s", got)
	}

	p.button(".actions", "Pause")
	p.says(".bar .tag", "paused")
	p.button(".actions", "Resume")
	p.until(`document.querySelector(".bar .tag").hidden`)

	p.click("#edit")
	p.write("dialog input[inputmode=numeric]", "50")
	p.button("dialog", "Save")
	p.says("#settings", "50")
	if n := c.OK(`{"op":"queue.info","queue":"orders"}`).At("settings").Int("max_messages"); n != 50 {
		t.Errorf("max_messages is %d", n)
	}

	p.click("#purge")
	p.says("dialog", "They are lost")
	p.button("dialog", "Go on…")
	p.write("dialog input", "order") // not its name
	p.button("dialog", "Purge")
	p.says("dialog .error", "That is not orders")
	p.write("dialog input", "orders")
	p.button("dialog", "Purge")
	p.notes("messages purged", false)
	p.until(`document.querySelector("#messages .empty:not([hidden])")`)

	p.click("#delete")
	p.button("dialog", "Go on…")
	p.write("dialog input", "orders")
	p.button("dialog", "Delete")
	p.until(`location.hash === "#/queues"`)
	c.Fails("not_found", `{"op":"queue.info","queue":"orders"}`)
}

// What stands in messages is shown and never carried out, and no request goes anywhere else.
func TestMessagesAreText(t *testing.T) {
	p, s := desk(t)
	p.visit(s, "queues/mails/2")
	p.says("dialog pre", "<script>alert(1)</script><b>bold</b>")
	if n := eval[int](p, `document.querySelectorAll("dialog b:not(#because b), dialog script").length`); n != 0 {
		t.Error("markup of a message became markup of the page")
	}
	p.visit(s, "queues/mails/1")
	p.says("dialog pre", "hello")
	if from := eval[string](p, `performance.getEntriesByType("resource").map(e => new URL(e.name).host).filter(h => h !== location.host).join()`); from != "" {
		t.Errorf("the page has asked %s for something", from)
	}
}

// The rights are those of the client port: who has few sees little, and is refused the rest.
func TestRightsHold(t *testing.T) {
	t.Parallel()
	s := shop(t)
	p := open(t, 1440, 900, false)
	p.forgive = "Failed to load resource" // refusals, as they are to be
	p.visit(s, "")
	p.write("input[autocomplete=username]", "ann")
	p.write("input[type=password]", "wrong")
	p.button("form.login", "Log in")
	p.says("form .error", "not right")
	p.login("ann", "correct horse")
	p.until(`document.querySelectorAll("#busiest tbody tr").length === 2`) // orders and, by consume:orders.>, orders.dlq
	if text := p.text("#top"); strings.Contains(text, "Users") {
		t.Error("the page offers the users to one who may not see them")
	}
	if text := p.text(".tiles"); strings.Contains(text, "Memory") {
		t.Error("the server's numbers are shown to one who may not see them")
	}
	p.visit(s, "queues/orders")
	p.until(`document.querySelector("#settings dd")`)
	p.button(".actions", "Pause")
	p.notes("needs the right manage", true)
	admin(t, s).OK(`{"op":"user.remove","user":"ann"}`)
	p.until(`document.querySelector("form.login")`) // thrown out, without being asked to do anything
}

func TestUsersAreChanged(t *testing.T) {
	p, s := desk(t)
	c := admin(t, s)
	p.visit(s, "users")
	p.says("td", "publish:orders.secret")
	p.button(".bar", "New user…")
	p.write("dialog input", "bob")
	p.write("dialog textarea", "publish:orders")
	p.button("dialog", "Add")
	p.says("tbody td", "bob")
	p.write("section form input", "bob")
	p.write("section form input[placeholder]", "orders")
	p.button("section form", "Ask")
	p.says(".says", "Yes: publish on orders is allowed by the grant publish:orders")
	if n := len(c.OK(`{"op":"user.list","prefix":"bob"}`).Each("users")); n != 1 {
		t.Errorf("%d users bob", n)
	}
	p.visit(s, "topics")
	p.write("main .pad input", "files.eu.added")
	p.until(`document.querySelectorAll("tbody tr").length === 2`)
	p.says("main .hint", "goes into the queues below")
}

// Everything can be reached by keys, and who does sees where he is.
func TestKeys(t *testing.T) {
	p, _ := desk(t)
	p.until(`document.querySelectorAll("#busiest tbody tr").length > 3`)
	press := func(keys ...string) {
		for _, key := range keys { // as a key and no text: what a page keeps from being typed would be typed otherwise
			if _, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: "keyDown", Key: key}); err != nil {
				t.Fatal(err)
			}
		}
	}
	press("g", "q")
	p.until(`document.querySelector("main h1").textContent === "Queues" && document.querySelectorAll("tbody tr").length > 3`)
	press("/")
	p.until(`document.activeElement.type === "search"`)
	p.do(chromedp.KeyEvent("ord"))
	p.until(`document.querySelectorAll("tbody tr").length === 2 && location.hash.includes("search=ord")`)
	press("Escape", "j")
	p.until(`document.activeElement.textContent === "orders" && getComputedStyle(document.activeElement).outlineStyle !== "none"`)
	p.do(chromedp.KeyEvent("\r"))
	p.until(`location.hash === "#/queues/orders" && document.querySelector("#settings dd")`)
	press("d")
	p.until(`getComputedStyle(document.documentElement).colorScheme === "dark"`)
	press("?")
	p.until(`document.querySelector("dialog kbd")`)
}

// While numbers come nothing moves.
func TestNothingMoves(t *testing.T) {
	p, s := desk(t)
	c := admin(t, s)
	eval[bool](p, `globalThis.moved = 0, new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) moved += e.value }).observe({ type: "layout-shift" }), true`)
	p.until(`document.querySelectorAll("#busiest tbody tr").length > 3 && document.querySelector(".legend output").textContent !== "–"`) // all that comes once is there
	before := eval[float64](p, "moved")
	for i := range 3 {
		c.OK(`{"op":"publish","queue":"orders","messages":[{"body":1},{"body":2},{"body":3}]}`)
		p.until(`document.querySelector(".tile dd").textContent >= "` + []string{"42", "45", "48"}[i] + `"`)
	}
	if after := eval[float64](p, "moved"); after-before > 0.01 {
		t.Errorf("the layout has shifted by %v while numbers came", after-before)
	}
}
