package member

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

var errPower = errors.New("the power is gone")

func FuzzToken(f *testing.F) {
	good := (&Token{Addresses: []string{"127.0.0.1:4569", "[::1]:4569", "gmq-0.gmq:4569"}, Secret: newSecret()}).String()
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(tokenMark)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseToken(text)
		if err != nil {
			if strings.Contains(err.Error(), text) && len(text) > len(tokenMark)+4 {
				t.Errorf("the error repeats what may be a secret: %v", err)
			}
			return
		}
		again, err := ParseToken(got.String())
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%+v comes back as %+v, %v", got, again, err)
		}
	})
}

// What other nodes keep is read without trust in its form.
func FuzzDocument(f *testing.F) {
	a, err := newAuthority(time.Unix(1_800_000_000, 0))
	if err != nil {
		f.Fatal(err)
	}
	ca, err := a.document()
	if err != nil {
		f.Fatal(err)
	}
	n := Node{ID: 7, Name: "n1", Address: "127.0.0.1:4569"}
	token := joinToken{expires: time.Unix(1_800_000_000, 0), node: 7}
	for name, data := range map[string][]byte{
		caName: ca, nodePrefix + IDText(7): n.document(), tokenName(token.hash): token.document(),
		settingsName: encode(settingsDocument{1, 3, 16}), gonePrefix + IDText(8): encode(goneDocument{Version: 1, Name: "n2"}),
		nodePrefix + "7": n.document(), Prefix: nil,
	} {
		f.Add(name, data)
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		m := &Manager{nodes: map[uint64]*Node{}, gone: map[uint64]goneDocument{}, tokens: map[string]*joinToken{}, opt: Options{}.withDefaults()}
		if err := m.change(name, data); err != nil && bytes.Contains([]byte(err.Error()), data) && len(data) > 40 {
			t.Errorf("the error repeats what may be a secret: %v", err)
		}
		_ = m.change(name, nil)
		if len(m.nodes)+len(m.gone)+len(m.tokens) > 0 {
			t.Errorf("%q stays when it is gone", name)
		}
	})
}

func TestBadIdentities(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `{"version":2,"id":"0000000000000007"}`, `{"version":1,"id":"7"}`, `{"version":1,"id":"0000000000000000"}`, `{"version":1,"id":"ffffffffffffffff"}`,
		`{"version":1,"id":"0000000000000007","member":true}`, `{"version":1,"id":"0000000000000007","key":"AAAA"}`, `{"version":1,"id":"0000000000000007","ca":"AAAA"}`,
		`{"version":1,"id":"0000000000000007","nodes":[{"id":"x"}]}`,
	} {
		if i, err := parseIdentity([]byte(text)); err == nil {
			t.Errorf("%s is taken for %+v", text, i)
		}
	}
	if i, err := parseIdentity([]byte(`{"version":1,"id":"0000000000000007","nodes":[{"id":"0000000000000008","name":"n2","address":"a:1"}]}`)); err != nil || i.id != 7 || len(i.nodes) != 1 {
		t.Errorf("%+v, %v", i, err)
	}
}
