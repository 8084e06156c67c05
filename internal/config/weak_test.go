package config

import (
	"slices"
	"testing"
)

func TestWeaknesses(t *testing.T) {
	for _, test := range []struct {
		what string
		set  func(*Config)
		want []string
	}{
		{"the defaults", func(*Config) {}, nil},
		{"open", func(c *Config) { c.Listen, c.Admin = ":4567", "0.0.0.0:4580" }, []string{"listen", "auth.required", "admin"}},
		{"TLS by choice", func(c *Config) { c.Listen, c.TLS, c.Auth.Required = ":4567", &TLS{}, true }, []string{"tls.required", "limits.max_connections_per_address"}},
		{"all on", func(c *Config) {
			c.Listen, c.Admin, c.TLS, c.Auth.Required = ":4567", ":4580", &TLS{Required: true, MinVersion: "1.3"}, true
			c.Limits.MaxConnectionsPerAddress = 100
		}, nil},
		{"1.2", func(c *Config) { c.TLS = &TLS{MinVersion: "1.2"} }, []string{"tls.min_version"}},
		{"certificates that nobody needs", func(c *Config) {
			c.Listen, c.TLS = ":4567", &TLS{ClientCA: "ca", ClientCert: "optional", Required: true}
		}, []string{"auth.required", "tls.client_cert"}},
		{"no sync", func(c *Config) { c.Storage.File.Sync = "never" }, []string{"storage.file.sync"}},
	} {
		c := Default()
		test.set(&c)
		var keys []string
		for _, w := range c.Weaknesses() {
			keys = append(keys, w.Key)
			if w.Text == "" || w.Mend == "" {
				t.Errorf("%s: %s: no text, or nothing that mends it: %+v", test.what, w.Key, w)
			}
		}
		if !slices.Equal(keys, test.want) {
			t.Errorf("%s: weak in %v, want %v", test.what, keys, test.want)
		}
	}
}
