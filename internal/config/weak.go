package config

import "fmt"

// A Weakness is a setting that a server takes and that had better be another one.
type Weakness struct {
	Key  string `json:"key"`
	Text string `json:"problem"`
	Mend string `json:"mend"` // the line, or the command, that mends it
}

// Weaknesses are those that the settings alone tell. Of what is in the files that they name it knows nothing.
func (c Config) Weaknesses() []Weakness {
	var all []Weakness
	weak := func(key, mend, format string, args ...any) {
		all = append(all, Weakness{Key: key, Text: fmt.Sprintf(format, args...), Mend: mend})
	}
	open := !IsLoopback(c.Listen)
	if open && c.TLS == nil {
		weak("listen", lineTLS, "%s can be reached from other machines without TLS: everybody on the way reads and changes what is sent", c.Listen)
	}
	if open && c.TLS != nil && !c.TLS.Required {
		weak("tls.required", "tls: {required: true}", "%s can be reached from other machines, and takes connections without TLS too", c.Listen)
	}
	if open && !c.Auth.Required {
		weak("auth.required", lineAuth, "%s can be reached from other machines, and nobody has to say who he is", c.Listen)
	}
	if open && c.Auth.Required && c.Limits.MaxConnectionsPerAddress == 0 {
		weak("limits.max_connections_per_address", "limits: {max_connections_per_address: 100}", "one address can take all the connections that there may be before a login, and keep everybody new out")
	}
	if c.Admin != AdminOff && !IsLoopback(c.Admin) && (c.TLS == nil || !c.Auth.Required) {
		weak("admin", "admin: 127.0.0.1:4580", "%s, with health and metrics, can be reached from other machines, and TLS and authentication are not both on", c.Admin)
	}
	if t := c.TLS; t != nil {
		if t.MinVersion == "1.2" {
			weak("tls.min_version", `tls: {min_version: "1.3"}`, "clients with TLS 1.2 are taken")
		}
		if open && t.ClientCA != "" && t.ClientCert != "required" && !c.Auth.Required {
			weak("tls.client_cert", "tls: {client_cert: required}", "certificates of clients are verified, and a client without one is let in just the same")
		}
	}
	if c.Storage.File.Sync == "never" {
		weak("storage.file.sync", "storage: {file: {sync: always}}", "what is confirmed last is lost when the power is cut")
	}
	return all
}
