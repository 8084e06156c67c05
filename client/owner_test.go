package gmq

import "testing"

// The topics of replies name their user, so that rights can keep others from listening.
func TestRepliesHaveAnOwner(t *testing.T) {
	for user, want := range map[string]string{
		"":                             "",
		"ann":                          "ann.",
		"ann (token laptop)":           "ann.",
		"token ci":                     "", // no user of that name is meant
		"shop.example.org":             "", // consume:gmq-reply.shop.> would be another's
		"spiffe://example.org/billing": "",
	} {
		c := &Client{hello: Hello{User: user}}
		if got := c.owner(); got != want {
			t.Errorf("user %q: %q, should be %q", user, got, want)
		}
	}
}
