package gmq

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/gmq/gmq/wire"
)

// A User is somebody who may log in. Rights are verbs and patterns, such as "publish:orders.*".
type User struct {
	Name     string    `json:"user"`
	Password bool      `json:"password"` // whether there is one
	Created  time.Time `json:"created"`
	Allow    []string  `json:"allow"`
	Deny     []string  `json:"deny"`
	Tokens   int       `json:"tokens"`
}

// A TokenInfo is a token, but for the token itself, which is told only once.
type TokenInfo struct {
	Name    string    `json:"name"`
	User    string    `json:"user,omitempty"` // whose it is; "" where the rights are its own
	Allow   []string  `json:"allow,omitempty"`
	Deny    []string  `json:"deny,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// AddUser makes a user. Without a password there is no login by one.
func (c *Client) AddUser(ctx context.Context, name, password string, allow, deny []string) error {
	b := appendText(appendText([]byte(`,"op":"user.add"`), "user", name), "password", password)
	return c.ask(ctx, appendRights(b, allow, deny, nil), false, nil)
}

// RemoveUser ends a user, with the tokens and the connections.
func (c *Client) RemoveUser(ctx context.Context, name string) error {
	return c.ask(ctx, appendText([]byte(`,"op":"user.remove"`), "user", name), false, nil)
}

// SetPassword gives a user another password, or none.
func (c *Client) SetPassword(ctx context.Context, name, password string) error {
	b := appendText([]byte(`,"op":"user.password"`), "user", name)
	return c.ask(ctx, appendText(b, "password", password), true, nil)
}

// Grant adds rights of a user, and takes away others. It gives those that there are then.
func (c *Client) Grant(ctx context.Context, name string, allow, deny, revoke []string) (User, error) {
	u := User{Name: name}
	b := appendText([]byte(`,"op":"user.grant"`), "user", name)
	err := c.ask(ctx, appendRights(b, allow, deny, revoke), true, &u)
	return u, err
}

// AddToken makes a token of a user, or, where user is "", one with rights of its own. It ends after ttl; 0 is never.
func (c *Client) AddToken(ctx context.Context, name, user string, ttl time.Duration, allow, deny []string) (token string, err error) {
	b := appendText(appendText([]byte(`,"op":"token.add"`), "name", name), "user", user)
	if ttl != 0 {
		b = appendDuration(b, "ttl", ttl)
	}
	var reply struct {
		Token string `json:"token"`
	}
	err = c.ask(ctx, appendRights(b, allow, deny, nil), false, &reply)
	return reply.Token, err
}

// RemoveToken ends a token and its connections.
func (c *Client) RemoveToken(ctx context.Context, name string) error {
	return c.ask(ctx, appendText([]byte(`,"op":"token.remove"`), "name", name), false, nil)
}

// Users gives all users in order of their names. A failure comes last and ends the list.
func (c *Client) Users(ctx context.Context) iter.Seq2[User, error] {
	return listed(ctx, c, "user.list", "users", func(u *User) string { return u.Name })
}

// Tokens gives all tokens in order of their names. A failure comes last and ends the list.
func (c *Client) Tokens(ctx context.Context) iter.Seq2[TokenInfo, error] {
	return listed(ctx, c, "token.list", "tokens", func(t *TokenInfo) string { return t.Name })
}

// listed asks for a list, a page at a time, until one is empty: a page may be cut.
func listed[T any](ctx context.Context, c *Client, op, field string, name func(*T) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for after := ""; ; {
			b := appendText(appendText(nil, "op", op), "after", after)
			var reply map[string]json.RawMessage
			err := c.ask(ctx, appendInt(b, "limit", listPage), true, &reply)
			var page []T
			if err == nil {
				err = json.Unmarshal(reply[field], &page)
			}
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			if len(page) == 0 {
				return
			}
			for i := range page {
				if !yield(page[i], nil) {
					return
				}
			}
			after = name(&page[len(page)-1])
		}
	}
}

// CheckRight tells whether a user may do what the verb says to a queue or a topic of that name, or to all that a pattern matches, and
// which right decides.
func (c *Client) CheckRight(ctx context.Context, user, verb, name string) (allowed bool, because string, err error) {
	b := appendText(appendText([]byte(`,"op":"auth.check"`), "user", user), "verb", verb)
	var reply struct {
		Allowed bool   `json:"allowed"`
		Because string `json:"because"`
	}
	err = c.ask(ctx, appendText(b, "name", name), true, &reply)
	return reply.Allowed, reply.Because, err
}

func appendRights(b []byte, allow, deny, revoke []string) []byte {
	for _, f := range []struct {
		name string
		list []string
	}{{"allow", allow}, {"deny", deny}, {"revoke", revoke}} {
		for i, right := range f.list {
			if i == 0 {
				b = append(append(append(b, `,"`...), f.name...), `":[`...)
			} else {
				b = append(b, ',')
			}
			b = wire.AppendString(b, right)
		}
		if len(f.list) > 0 {
			b = append(b, ']')
		}
	}
	return b
}
