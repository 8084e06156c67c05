package config

import (
	"fmt"
	"slices"
	"strings"
)

// The lines that protect a server, as findings name them.
const (
	lineTLS  = "tls: {cert: FILE, key: FILE, required: true}"
	lineAuth = "auth: {required: true}"
)

// complete fills in what was left out of a section that is there.
func (t *TLS) complete() {
	if t == nil {
		return
	}
	if t.ClientCert == "" {
		t.ClientCert = "optional"
	}
	if t.MinVersion == "" {
		t.MinVersion = "1.3"
	}
}

func (t *TLS) problems() []problem {
	if t == nil {
		return nil
	}
	var all []problem
	for _, f := range []struct{ key, file, what string }{{"tls.cert", t.Cert, "certificate"}, {"tls.key", t.Key, "private key"}} {
		if f.file == "" {
			all = append(all, problem{f.key, "is missing; want the file with the server's " + f.what + " in PEM (gmq dev-cert makes one for trying)"})
		}
	}
	for _, w := range []struct {
		key, value string
		names      []string
	}{
		{"tls.client_cert", t.ClientCert, []string{"", "required", "optional"}},
		{"tls.min_version", t.MinVersion, []string{"", "1.3", "1.2"}},
	} {
		if !slices.Contains(w.names, w.value) {
			all = append(all, problem{w.key, fmt.Sprintf("%q is none of %s", w.value, strings.Join(w.names[1:], ", "))})
		}
	}
	if t.ClientCert == "required" && t.ClientCA == "" {
		all = append(all, problem{"tls.client_cert", "required needs tls.client_ca, the file with the authorities that sign clients' certificates"})
	}
	return all
}

// IsLoopback reports whether an address, host:port, can be reached from this machine only.
func IsLoopback(address string) bool {
	host, err := splitAddress(address)
	return err == nil && isLoopback(host)
}
