// Package tls holds the real server to what it says of TLS, with certificates of every kind and with other people's
// clients.
package tls_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// logged waits until the server's log has a line with all of these.
func logged(t *testing.T, s *harness.Server, parts ...string) {
	t.Helper()
	harness.Eventually(t, "the log has a line with "+strings.Join(parts, " and "), func() bool {
		for _, line := range s.Log() {
			found := true
			for _, p := range parts {
				found = found && strings.Contains(line, p)
			}
			if found {
				return true
			}
		}
		return false
	})
}

// dialClient connects with the Go client.
func dialClient(t *testing.T, s *harness.Server, config *tls.Config) (*gmq.Client, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	var opts []gmq.Option
	if config != nil {
		opts = append(opts, gmq.WithTLS(config))
	}
	c, err := gmq.Dial(ctx, s.Addr, opts...)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestPlainAndTLSOnOnePort(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	s := harness.Start(t, a.Issue("server").TLSConfig(""))
	plain, secure := s.Dial(t), s.DialTLS(t, a.Client())
	plain.OK(`{"op":"publish","queue":"q","body":1}`)
	big := strings.Repeat("b", 200_000) // more than a record
	secure.OK(`{"op":"publish","queue":"q","body":"%s"}`, big)
	for _, want := range []string{"1", `"` + big + `"`} {
		if got := secure.OK(`{"op":"receive","queue":"q"}`).Each("messages"); len(got) != 1 || got[0].Body() != want {
			t.Fatalf("R120: not what was published came back: %.80v", got)
		}
	}
	// Lines in pieces: a record each, in the middle of everything.
	for _, b := range []byte("{\"op\":\"ping\",\"id\":\"piece\"}\n\n") {
		secure.SendRaw([]byte{b})
	}
	if l := secure.Reply(); l.Text("id") != "piece" {
		t.Fatalf("R120: %s", l.Raw)
	}
	// Many requests at once, more than the desk and the buffer of encrypted bytes hold.
	const n = 3000
	secure.Send(strings.Repeat(`{"op":"publish","queue":"many","body":"`+strings.Repeat("x", 200)+`","quiet":true}`+"\n", n-1) + `{"op":"publish","queue":"many","body":1,"id":"end"}`)
	if l := secure.Reply(); l.Int("seq") != n {
		t.Errorf("R120: not all were published in order: %s", l.Raw)
	}
	if got := secure.OK(`{"op":"queue.info","queue":"many"}`).At("counts").Int("published"); got != n {
		t.Errorf("R120: %d of %d were published", got, n)
	}
	// 0x16 inside of TLS is as any other byte.
	secure.SendRaw([]byte("\x16\n"))
	secure.Reply().WantCode(t, "bad_json")
	// The end is the client's: what was said before is answered, and then the server says that it ends.
	secure.Send(`{"op":"ping","id":"last"}`)
	secure.Conn.(*tls.Conn).CloseWrite()
	if lines := secure.Ended(); len(lines) != 1 || lines[0].Text("id") != "last" {
		t.Errorf("R15: %v", lines)
	}
}

func TestRequired(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	s := harness.Start(t, a.Issue("server").TLSConfig("required: true"))
	c := s.Dial(t)
	c.Send(`{"op":"ping"}`)
	lines := c.Ended()
	if len(lines) != 1 {
		t.Fatalf("R121: %v", lines)
	}
	lines[0].WantCode(t, "bad_request")
	if !strings.Contains(lines[0].Message(), "tls.required") || !strings.Contains(lines[0].Message(), "--tls") {
		t.Errorf("R121: a person does not learn what to do: %s", lines[0].Raw)
	}
	_, err := dialClient(t, s, nil)
	if err == nil || !strings.Contains(err.Error(), "takes only encrypted connections") {
		t.Errorf("the client says %v", err)
	}
	s.DialTLS(t, a.Client()).OK(`{"op":"ping"}`)
}

func TestWithoutCertificate(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, "")
	c := s.Dial(t)
	c.SendRaw([]byte("\x16\x03\x01\x02\x00"))
	lines := c.Ended()
	if len(lines) != 1 || lines[0].Code() != "bad_request" || !strings.Contains(lines[0].Message(), "tls.cert") {
		t.Errorf("R7: %v", lines)
	}
	_, err := dialClient(t, s, &tls.Config{})
	if err == nil || !strings.Contains(err.Error(), "does not speak TLS here") {
		t.Errorf("the client says %v", err)
	}
}

// What a client thinks of the server's certificate is said by the client, and by the server's log.
func TestServerCertificates(t *testing.T) {
	t.Parallel()
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	trust := a.Client()
	for _, test := range []struct {
		what   string
		cert   harness.Certificate
		client *tls.Config
		says   string
		logs   string
	}{
		{"expired", a.Issue("expired", harness.Expired), trust, "has expired: it was valid until", "does not accept this server's certificate"},
		{"not yet", a.Issue("not-yet", harness.NotYet), trust, "is not valid yet: it is from", "does not accept this server's certificate"},
		{"wrong name", a.Issue("elsewhere", harness.ForHost("elsewhere.example.org")), trust, "is for another name: it is for elsewhere.example.org, not for localhost", "does not accept this server's certificate"},
		{"unknown authority", stranger.Issue("stranger"), trust, "is signed by an unknown authority", "does not accept this server's certificate"},
	} {
		t.Run(test.what, func(t *testing.T) {
			s := harness.Start(t, test.cert.TLSConfig(""))
			_, err := dialClient(t, s, test.client)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the client says: %v", err)
			}
			logged(t, s, test.logs)
			s.Dial(t).OK(`{"op":"ping"}`)
		})
	}
}

// A certificate that is no server's is noticed before anybody connects.
func TestCertificateOfAClientForAServer(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	cert := a.Issue("client", harness.ForClient("localhost"))
	out, err := exec.Command(harness.Exe(t), "serve", "--data", t.TempDir(), "--config", writeConfig(t, cert.TLSConfig(""))).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "tls.cert: "+cert.Cert+": the certificate is for another use") {
		t.Errorf("%v: %s", err, out)
	}
	// And by the client, where a server is less careful.
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert.Pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if nc, err := l.Accept(); err == nil {
			nc.(*tls.Conn).Handshake()
			nc.Close()
		}
	}()
	if _, err := dialClient(t, &harness.Server{Addr: l.Addr().String()}, a.Client()); err == nil || !strings.Contains(err.Error(), "is for another use: its extended key usage has no serverAuth") {
		t.Errorf("the client says: %v", err)
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	name := t.TempDir() + "/gmq.yaml"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// What the server thinks of a client's certificate it says in its log, and to the client in a line.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	server := a.Issue("server")
	for _, demanded := range []bool{true, false} {
		more, name := "client_ca: "+a.File, "optional"
		if demanded {
			more, name = more+", client_cert: required", "required"
		}
		t.Run(name, func(t *testing.T) {
			s := harness.Start(t, server.TLSConfig(more))
			for _, test := range []struct {
				what    string
				present []harness.Certificate
				says    string // "": it is let in
			}{
				{"good", []harness.Certificate{a.Issue("good", harness.ForClient("ann"))}, ""},
				{"expired", []harness.Certificate{a.Issue("expired", harness.ForClient("ann"), harness.Expired)}, "the client's certificate has expired: it was valid until"},
				{"not yet", []harness.Certificate{a.Issue("notyet", harness.ForClient("ann"), harness.NotYet)}, "the client's certificate is not valid yet: it is from"},
				{"a server's", []harness.Certificate{server}, "the client's certificate is for another use: its extended key usage has no clientAuth"},
				{"unknown authority", []harness.Certificate{stranger.Issue("stranger", harness.ForClient("ann"))}, "the client's certificate is signed by an unknown authority"},
				{"none", nil, map[bool]string{true: "demands a client certificate (tls.client_cert: required), and none was presented"}[demanded]},
			} {
				c, err := dialClient(t, s, a.Client(test.present...))
				if test.says == "" {
					if err != nil {
						t.Errorf("%s: %v", test.what, err)
					} else if err := c.Ping(t.Context()); err != nil {
						t.Errorf("%s: %v", test.what, err)
					}
					continue
				}
				if err == nil || !strings.Contains(err.Error(), "unauthenticated: ") || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%s: the client says: %v", test.what, err)
				}
				logged(t, s, "a TLS connection was refused", test.says)
				// Nothing that it said was carried out: it is told, and that is the end.
				raw := s.DialTLS(t, a.Client(test.present...))
				raw.Send(`{"op":"publish","queue":"sneaky","body":1}`)
				if lines := raw.Ended(); len(lines) != 1 || lines[0].Code() != "unauthenticated" {
					t.Errorf("%s: %v", test.what, lines)
				}
			}
			s.Dial(t).Fails("not_found", `{"op":"queue.info","queue":"sneaky"}`)
		})
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	old := a.Client()
	old.MaxVersion = tls.VersionTLS12
	s := harness.Start(t, a.Issue("server").TLSConfig(""))
	if _, err := dialClient(t, s, old); err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
		t.Errorf("TLS 1.2 although 1.3 is the least: %v", err)
	}
	logged(t, s, "speaks no version of TLS that is taken here; see tls.min_version")
	s = harness.Start(t, a.Issue("server").TLSConfig(`min_version: "1.2"`))
	s.DialTLS(t, old).OK(`{"op":"ping"}`)
	s.DialTLS(t, a.Client()).OK(`{"op":"ping"}`)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := dialClient(t, s, old); err == nil {
		t.Error("TLS 1.1 is taken")
	}
}

// 500 clients that never finish, or never go beyond the first byte, keep nobody from working, and are gone after a while.
func TestHalfOpenHandshakes(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	s := harness.Start(t, a.Issue("server").TLSConfig(""))
	good := s.DialTLS(t, a.Client())
	var half []net.Conn
	hello := clientHello(t)
	for i := range 500 {
		nc, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		begin := [][]byte{{0x16}, hello[:5], hello[:len(hello)/2], hello}[i%4]
		if _, err := nc.Write(begin); err != nil {
			t.Fatal(err)
		}
		half = append(half, nc)
	}
	for i := range 200 {
		good.OK(`{"op":"publish","queue":"q","body":%d}`, i)
	}
	s.DialTLS(t, a.Client()).OK(`{"op":"ping"}`) // a new one gets in, too
	for _, nc := range half {
		nc.SetReadDeadline(time.Now().Add(harness.Patience))
		if _, err := io.Copy(io.Discard, nc); err != nil && isTimeout(err) {
			t.Fatal("a handshake that is not finished lasts for ever")
		}
	}
	logged(t, s, "it did not finish the handshake within 5s")
	good.OK(`{"op":"ping"}`)
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// clientHello is what a client sends first.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tls.Client(theirs, &tls.Config{ServerName: "localhost"}).Handshake()
	}()
	buf := make([]byte, 16<<10)
	n, err := ours.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	<-done
	return buf[:n]
}

// A handshake may send so much and no more.
func TestEndlessHandshake(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	s := harness.Start(t, a.Issue("server").TLSConfig(""))
	nc, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	// A client's hello of 64,000 bytes, which crypto/tls would take, in records of 16,000, without its last one.
	hello := append([]byte{1, 0, 0xfa, 0}, make([]byte, 64_000)...)
	nc.SetDeadline(time.Now().Add(harness.Patience))
	for range 3 {
		if _, err := nc.Write(append([]byte{0x16, 3, 1, 0x3e, 0x80}, hello[:16_000]...)); err != nil {
			t.Fatal(err)
		}
		hello = hello[16_000:]
	}
	logged(t, s, "the client's part of the handshake is too long")
	s.DialTLS(t, a.Client()).OK(`{"op":"ping"}`)
}

func TestReload(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	cert := a.Issue("server")
	s := harness.Start(t, cert.TLSConfig(""))
	first := s.DialTLS(t, a.Client())
	serves := func(want string) {
		t.Helper()
		harness.Eventually(t, "the certificate is "+want, func() bool {
			c := s.DialTLS(t, a.Client())
			defer c.Close()
			return c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName == want
		})
		first.OK(`{"op":"publish","queue":"q","body":1}`)
	}
	serves("server")
	replace := func(by harness.Certificate) {
		t.Helper()
		for from, to := range map[string]string{by.Cert: cert.Cert, by.Key: cert.Key} {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	// By HUP, and by nothing but the change of the files.
	replace(a.Issue("second"))
	s.Hup()
	serves("second")
	logged(t, s, "certificate reloaded") // before the files are looked at again there is nothing new
	replace(a.Issue("third"))
	serves("third")
	logged(t, s, "certificate reloaded")

	// What is no good is not taken, and that is said.
	for name, bad := range map[string]func(){
		"private key does not match public key":                    func() { os.Rename(a.Issue("other").Key, cert.Key) },
		"there is no certificate in it":                            func() { os.WriteFile(cert.Cert, []byte("nothing"), 0o600) },
		"no such file or directory":                                func() { os.Remove(cert.Key) },
		"has expired: it was valid until":                          func() { replace(a.Issue("expired", harness.Expired)) },
		"is for another use: its extended key usage has no server": func() { replace(a.Issue("client", harness.ForClient("x"))) },
	} {
		bad()
		s.Hup()
		logged(t, s, "configuration not reloaded", name)
		serves("third")
	}
	logged(t, s, "certificate not reloaded, the one before stays in force") // without HUP
	// And it recovers by itself.
	replace(a.Issue("fourth"))
	serves("fourth")
}

// openssl speaks to the server as it would to any other.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	s := harness.Start(t, a.Issue("server").TLSConfig("client_ca: "+a.File+", client_cert: required, required: true"))
	good, other := a.Issue("good", harness.ForClient("ann")), stranger.Issue("other", harness.ForClient("ann"))
	expired := a.Issue("expired", harness.ForClient("ann"), harness.Expired)
	for _, test := range []struct {
		what string
		ca   string
		cert harness.Certificate
		want string // in the first line, or in what openssl says
	}{
		{"good", a.File, good, `{"ok":true,"seq":1,"stored":"disk"}`},
		{"expired", a.File, expired, `"code":"unauthenticated","message":"the client's certificate has expired`},
		{"unknown", a.File, other, `"code":"unauthenticated","message":"the client's certificate is signed by an unknown authority`},
		{"none", a.File, harness.Certificate{}, `"code":"unauthenticated","message":"this server demands a client certificate`},
		{"wrong authority", stranger.File, good, "unable to get local issuer certificate"},
	} {
		args := []string{"s_client", "-connect", s.Addr, "-CAfile", test.ca, "-verify_hostname", "localhost", "-verify_return_error", "-quiet"}
		if test.cert.Cert != "" {
			args = append(args, "-cert", test.cert.Cert, "-key", test.cert.Key)
		}
		cmd := exec.Command("openssl", args...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out lockedText
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		io.WriteString(in, `{"op":"publish","queue":"q","body":"by openssl"}`+"\n") // it fails where openssl has ended already
		harness.Eventually(t, test.what+": openssl says "+test.want, func() bool { return strings.Contains(out.String(), test.want) })
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	}
	logged(t, s, "the client does not accept this server's certificate: tls: unknown certificate authority")
	if got := s.DialTLS(t, a.Client(good)).OK(`{"op":"queue.info","queue":"q"}`).At("counts").Int("published"); got != 1 {
		t.Errorf("%d messages were published, and one client was let in", got)
	}
}

// A lockedText is an output that is read while it is written.
type lockedText struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Beyond loopback the admin address is HTTPS, with the same certificate and the same demands.
func TestAdmin(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	cert, client := a.Issue("server"), a.Issue("client", harness.ForClient("prometheus"))
	exe := exec.Command(harness.Exe(t), "serve", "--insecure", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0", "--config",
		writeConfig(t, cert.TLSConfig("client_ca: "+a.File+", client_cert: required")))
	stderr, err := exe.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := exe.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { exe.Process.Kill(); exe.Wait() }()
	var ready struct{ Admin, Certificate string }
	if err := json.NewDecoder(stderr).Decode(&ready); err != nil || !strings.Contains(ready.Certificate, "localhost") {
		t.Fatalf("%v %+v", err, ready)
	}
	go io.Copy(io.Discard, stderr)
	_, port, _ := net.SplitHostPort(ready.Admin)
	get := func(config *tls.Config) (string, error) {
		nc, err := tls.Dial("tcp", "127.0.0.1:"+port, config)
		if err != nil {
			return "", err
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(harness.Patience))
		io.WriteString(nc, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		text, err := io.ReadAll(nc)
		return string(text), err
	}
	text, err := get(a.Client(client))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"gmq_tls_certificate_expiry_seconds 3.15", "gmq_tls_reload_failures_total 0", `gmq_tls_handshakes_total{result="ok"} 0`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not among the metrics: %.300s", want, text)
		}
	}
	if text, err := get(a.Client()); err == nil {
		t.Errorf("without a certificate: %.100s", text)
	}
	plain, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	plain.SetDeadline(time.Now().Add(harness.Patience))
	io.WriteString(plain, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if text, _ := io.ReadAll(plain); strings.Contains(string(text), "gmq_") {
		t.Error("metrics without TLS")
	}
}
