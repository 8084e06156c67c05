package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "512B": 512, "1000": 1000, "1KB": 1000, "5MB": 5e6, "2GB": 2e9, "1TB": 1e12,
		"1KiB": 1024, "64KiB": 64 << 10, "1MiB": 1 << 20, "1GiB": 1 << 30, "3TiB": 3 << 40,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%s is printed as %s, which is %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "B", "MiB", "-1", "+1", "1.5GiB", "1 MiB", "1mib", "1KiBB", "1iB", "0x10", "9223372036854775807KiB", "99999999999999999999"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
	for size, want := range map[Size]string{MiB: "1MiB", 1536: "1536", 1500: "1500", 5e6: "5MB", GiB + KiB: "1048577KiB"} {
		if size.String() != want {
			t.Errorf("%d is printed as %s, want %s", size, size, want)
		}
	}
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Millisecond: "1ms", 30 * time.Second: "30s", 5 * time.Minute: "5m", 90 * time.Minute: "1h30m",
		time.Hour: "1h", time.Hour + time.Second: "1h0m1s", 10 * time.Minute: "10m", 20 * time.Hour: "20h",
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v is printed as %s, want %s", d, got, want)
		}
		if again, err := ParseDuration(want); err != nil || again != Duration(d) {
			t.Errorf("%s is read as %v, %v", want, again, err)
		}
	}
}

func TestYAMLHidesSecretsOnly(t *testing.T) {
	c := Default()
	c.Storage.MySQL = &MySQL{DSN: "gmq:canary@tcp(127.0.0.1:3306)/gmq"}
	shown, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if text := string(shown); strings.Contains(text, "canary") || !strings.Contains(text, "dsn: gmq:***@tcp(127.0.0.1:3306)/gmq") ||
		!strings.Contains(text, "memory: 1GiB") || !strings.Contains(text, "drain_timeout: 10s") || strings.Contains(text, "tls") {
		t.Errorf("shown:\n%s", text)
	}
	if !strings.Contains(c.Storage.MySQL.DSN, "canary") {
		t.Error("showing the configuration changed it")
	}
}

func TestMaskDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"gmq:canary@tcp(h:3306)/gmq":         "gmq:***@tcp(h:3306)/gmq",
		"gmq:can@/ary@tcp(h:3306)/gmq?a=b":   "gmq:***@tcp(h:3306)/gmq?a=b",
		"gmq:can:ary@unix(/tmp/s)/gmq":       "gmq:***@unix(/tmp/s)/gmq",
		"gmq@tcp(h:3306)/gmq":                "gmq@tcp(h:3306)/gmq",
		"/gmq":                               "/gmq",
		"gmq:canary":                         "***",
		"gmq:canary@tcp(h:3306)":             "***",
		"mysql://gmq:canary@h:3306/gmq":      "mysql:***@h:3306/gmq",
		"tcp(h:3306)/gmq:canary@elsewhere":   "***",
		"gmq:canary@tcp(h)/gmq?loc=Europe/X": "gmq:***@tcp(h)/gmq?loc=Europe/X",
	} {
		if got := maskDSN(dsn); got != want {
			t.Errorf("%s is shown as %s, want %s", dsn, got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	before, after := Default(), Default()
	if changed, restart := Diff(before, after); changed != nil || restart != nil {
		t.Errorf("nothing changed: %v, %v", changed, restart)
	}
	after.Listen = "127.0.0.1:1"
	after.Log.Level = "debug"
	after.Log.Format = "json"
	after.Limits.Memory = MiB
	after.QueueDefaults.Retry.Factor = 3
	after.TLS = &TLS{Cert: "cert.pem", Key: "key.pem", ClientCA: "ca.pem", ClientCert: "required", Required: true, MinVersion: "1.3"}
	after.DrainTimeout = 0
	changed, restart := Diff(before, after)
	if want := []string{"listen", "log.level", "log.format", "limits.memory", "queue_defaults.retry.factor", "tls.cert", "tls.key", "tls.client_ca", "tls.client_cert", "tls.required", "tls.min_version", "drain_timeout"}; !slices.Equal(changed, want) {
		t.Errorf("changed %v", changed)
	}
	if want := []string{"listen", "log.format", "tls.cert", "tls.key", "tls.client_ca", "tls.client_cert", "tls.required", "tls.min_version"}; !slices.Equal(restart, want) {
		t.Errorf("need a restart: %v", restart)
	}
	// A section that is there may change as it likes.
	before.TLS = &TLS{Cert: "other.pem"}
	if _, restart := Diff(before, after); !slices.Equal(restart, []string{"listen", "log.format"}) {
		t.Errorf("need a restart: %v", restart)
	}
}

// Every line of a table must be about a setting or a section that exists.
func TestTablesNameRealKeys(t *testing.T) {
	names := slices.Clone(reloadable)
	for _, u := range unsupported {
		names = append(names, u.key)
	}
	for _, name := range names {
		section := strings.TrimSuffix(name, ".") + "."
		if !slices.ContainsFunc(Keys(), func(key string) bool { return key == name || strings.HasPrefix(key, section) }) {
			t.Errorf("%s is no setting", name)
		}
	}
}
