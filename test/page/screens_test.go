package page

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gmq/gmq/test/harness"
)

// secret is the password of the user admin.
const secret = "a password for a test"

// longName is as long as names may be.
var longName = "long." + strings.Repeat("name-", 50)

// shop starts a server with something in it: a queue that works, one with a poisoned message, one that is paused, bindings and users.
func shop(t testing.TB) *harness.Server {
	t.Helper()
	s := harness.Start(t, "admin: 127.0.0.1:0\nauth: {required: true}\n")
	c := s.Dial(t)
	c.OK(`{"op":"hello","user":"admin","password":"%s","client":"shop"}`, secret)
	c.OK(`{"op":"queue.create","queue":"orders","max_deliveries":1,"max_messages":100000}`)
	for i := range 40 {
		c.OK(`{"op":"publish","queue":"orders","body":{"order":%d,"customer":"c%03d","total":%d.50},"key":"c%03d","headers":{"trace":"7f3a%04d"}}`, i+1, i%7, 10+i, i%7, i)
	}
	for range 3 { // poisoned: they die at their first attempt
		m := c.OK(`{"op":"receive","queue":"orders"}`).Each("messages")[0]
		c.OK(`{"op":"nack","queue":"orders","seq":%d,"reason":"cannot be parsed: no such customer"}`, m.Int("seq"))
	}
	c.OK(`{"op":"receive","queue":"orders","max":4,"lease":"1h"}`)
	c.OK(`{"op":"publish","queue":"orders","body":"remind me","delay":"24h"}`)
	c.OK(`{"op":"queue.create","queue":"mails","storage":"memory"}`)
	c.OK(`{"op":"publish","queue":"mails","messages":[{"body":"aGVsbG8=","encoding":"base64"},{"body":"<script>alert(1)</script><b>bold</b>"}]}`)
	c.OK(`{"op":"queue.pause","queue":"mails"}`)
	c.OK(`{"op":"queue.create","queue":"thumbnails"}`)
	c.OK(`{"op":"queue.bind","queue":"thumbnails","topic":"files.*.added"}`)
	c.OK(`{"op":"queue.bind","queue":"mails","topic":"files.>"}`)
	c.OK(`{"op":"queue.bind","queue":"orders","topic":"shop.eu.ordered"}`)
	c.OK(`{"op":"subscribe","queue":"thumbnails","credit":10}`)
	c.OK(`{"op":"publish","queue":"%s","body":12345678901234567890.50}`, longName)
	c.OK(`{"op":"user.add","user":"ann","password":"correct horse","allow":["publish:orders","peek:orders","consume:orders.>"],"deny":["publish:orders.secret"]}`)
	c.OK(`{"op":"user.add","user":"billing","allow":["consume:orders","consume:orders.dlq","publish:invoices.>"]}`)
	c.OK(`{"op":"token.add","name":"ci","allow":["publish:ci.>"],"ttl":"8760h"}`)
	c.OK(`{"op":"token.add","name":"ann-laptop","user":"ann"}`)
	return s
}

// Each page at both ends of the sizes that there are, light and dark: nothing sticks out, and the console has nothing to say.
func TestScreens(t *testing.T) {
	t.Parallel()
	s := shop(t)
	for _, width := range []int64{1440, 390} {
		for _, dark := range []bool{false, true} {
			name := fmt.Sprintf("%d-%s", width, map[bool]string{false: "light", true: "dark"}[dark])
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				screens(t, s, name, width, dark)
			})
		}
	}
}

func screens(t *testing.T, s *harness.Server, name string, width int64, dark bool) {
	p := open(t, width, 900, dark)
	p.forgive = "401" // the first question is who it is
	p.visit(s, "")
	p.until(`document.querySelector("form.login")`)
	p.picture(name + "-login")
	p.login("admin", secret)
	for _, page := range []struct{ what, place, there string }{
		{"overview", "", `document.querySelectorAll("#busiest tbody tr").length > 3 && document.querySelector(".legend output").textContent !== "–"`},
		{"queues", "queues", `document.querySelectorAll("tbody tr").length > 3`},
		{"queue", "queues/orders", `document.querySelectorAll("#messages tbody tr").length > 20 && document.querySelector("#settings dd")`},
		{"dead", "queues/orders.dlq", `document.querySelectorAll("#messages tbody tr").length === 3 && document.querySelector("#settings dd")`},
		{"message", "queues/orders/4", `document.querySelector("dialog #because") && document.querySelector("#settings dd")`},
		{"long", "queues/" + longName, `document.querySelectorAll("#messages tbody tr").length === 1 && document.querySelector("#settings dd")`},
		{"topics", "topics", `document.querySelectorAll("tbody tr").length === 3`},
		{"users", "users", `document.querySelectorAll("tbody tr").length === 5`},
	} {
		p.visit(s, page.place)
		p.until(page.there)
		if out := eval[int](p, `document.documentElement.scrollWidth - innerWidth`); out > 0 {
			t.Errorf("%s is %d pixels wider than the window", page.what, out)
		}
		p.picture(name + "-" + page.what)
	}
}
