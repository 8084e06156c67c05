package config

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

const masked = "***"

// YAML is the configuration as a file that Load would read, except that
// secrets are masked.
func (c Config) YAML() ([]byte, error) {
	if c.Storage.MySQL != nil {
		shown := *c.Storage.MySQL // c shares the original with others
		shown.DSN = maskDSN(shown.DSN)
		c.Storage.MySQL = &shown
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(c); err != nil {
		return nil, err
	}
	err := encoder.Close()
	return out.Bytes(), err
}

// maskDSN hides the password of user:password@net(address)/name, which may
// itself hold every one of these marks; what follows none of the pattern is hidden whole.
func maskDSN(dsn string) string {
	slash := strings.LastIndexByte(dsn, '/')
	if slash < 0 {
		return masked
	}
	at := strings.LastIndexByte(dsn[:slash], '@')
	if at < 0 {
		// No user: nothing to hide, unless an unescaped mark misled us.
		if strings.ContainsAny(dsn, "@") {
			return masked
		}
		return dsn
	}
	user, _, hasPassword := strings.Cut(dsn[:at], ":")
	if !hasPassword {
		return dsn
	}
	return user + ":" + masked + dsn[at:]
}
