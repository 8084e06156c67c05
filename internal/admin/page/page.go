package page

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gmq/gmq/wire"
)

const (
	// maxStreams is how many pages may be open at once, and maxOwnStreams how many of one user.
	maxStreams, maxOwnStreams = 64, 16
	// requestTime bounds a request, and a write to a stream.
	requestTime = 20 * time.Second
	maxLogin    = 8 << 10 // bytes
	// lineOverhead is how much longer than a body a request may be, bytes, as on a connection.
	lineOverhead = 64 << 10
)

// contentPolicy lets the page load its own files and nothing else, and be shown in no other page. It has no exception for
// inline scripts or styles, so what somebody writes into a message can be none.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// A Page answers for the page and its numbers.
type Page struct {
	source  Source
	door    Door
	maxBody func() int
	looks   *sampler
	streams streams
	mux     *http.ServeMux
}

// New makes the page. maxBody is the largest body of a message that is taken, bytes.
func New(source Source, door Door, maxBody func() int) *Page {
	p := &Page{source: source, door: door, maxBody: maxBody, looks: newSampler(source), streams: streams{by: map[string]int{}}, mux: http.NewServeMux()}
	p.mux.HandleFunc("GET /{$}", asset("index.html"))
	p.mux.HandleFunc("GET /assets/{file...}", func(w http.ResponseWriter, r *http.Request) { asset(r.PathValue("file"))(w, r) })
	p.mux.HandleFunc("GET /api/me", p.me)
	p.mux.HandleFunc("POST /api/login", p.login)
	p.mux.HandleFunc("POST /api/logout", p.logout)
	p.mux.HandleFunc("POST /api/request", p.entered(p.request))
	p.mux.HandleFunc("GET /api/overview", p.entered(p.overview))
	p.mux.HandleFunc("GET /api/queues", p.entered(p.queues))
	p.mux.HandleFunc("GET /api/queues/{queue}", p.entered(p.queue))
	p.mux.HandleFunc("GET /api/queues/{queue}/messages", p.entered(p.messages))
	p.mux.HandleFunc("GET /api/queues/{queue}/messages/{seq}", p.entered(p.message))
	p.mux.HandleFunc("GET /api/topics", p.entered(p.topics))
	p.mux.HandleFunc("GET /api/cluster", p.entered(p.cluster))
	p.mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, wire.Errorf(wire.CodeNotFound, "there is no %.100s %.100s; docs/operations.md has a list", r.Method, r.URL.Path))
	})
	return p
}

// Owns implements admin.Page.
func (p *Page) Owns(path string) bool {
	return path == "/" || strings.HasPrefix(path, "/assets/") || strings.HasPrefix(path, "/api/")
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	if err := p.foreign(r); err != nil {
		refuse(w, http.StatusForbidden, err)
		return
	}
	p.mux.ServeHTTP(w, r)
}

// foreign says why a request may have been made by another web page in somebody's browser; nil where it was not. A browser
// says so itself (Sec-Fetch-Site, Origin). Where it is too old to, it cannot send JSON to another site without asking first,
// and nobody answers that here.
func (p *Page) foreign(r *http.Request) *wire.Error {
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		return nil
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site == "cross-site" || site == "same-site":
		return wire.Errorf(wire.CodeForbidden, "this was asked for by a page of another origin")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		if origin := r.Header.Get("Origin"); origin != "" && origin != scheme(r)+"://"+r.Host {
			return wire.Errorf(wire.CodeForbidden, "this was asked for by a page of another origin")
		}
		if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
			return wire.Errorf(wire.CodeForbidden, "what changes anything is asked for with Content-Type: application/json")
		}
	}
	if !p.door.Required() && !plainHost(r.Host) {
		return wire.Errorf(wire.CodeForbidden, "without logins the server is asked for by IP address, as localhost, or by a name without dots, so that no web page can have its own name lead here")
	}
	return nil
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// plainHost reports whether a Host is none that somebody could own on the Internet.
func plainHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.Contains(host, ".")
}

func port(r *http.Request) string {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		_, port, _ := net.SplitHostPort(local.String())
		return port
	}
	return "0"
}

// entered is for what needs to know who asks.
func (p *Page) entered(h func(w http.ResponseWriter, r *http.Request, v Visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := p.door.Enter(r)
		if err != nil {
			refuse(w, statusOf(err.Code), err)
			return
		}
		defer v.Leave()
		h(w, r, v)
	}
}

// me tells who asks, if anybody, and what he may do everywhere: enough for a page to know what to show.
func (p *Page) me(w http.ResponseWriter, r *http.Request) {
	who := struct {
		Required bool   `json:"required"`          // whether anybody has to log in
		LoggedIn bool   `json:"logged_in"`         // or need not
		Name     string `json:"name,omitempty"`    // the user, the token, or both
		Server   bool   `json:"sees_server"`       // whether the numbers of the whole server are for him
		Admin    bool   `json:"sees_users"`        // whether users and tokens are
		Because  string `json:"because,omitempty"` // why he is not logged in, where it is not just that
		Limit    int    `json:"max_message_bytes"` // of a body
	}{Required: p.door.Required(), Limit: p.maxBody()}
	if v, err := p.door.Enter(r); err == nil {
		defer v.Leave()
		who.LoggedIn, who.Name = true, v.Name()
		who.Server, who.Admin = seesServer(v), v.May(wire.VerbAdmin, "")
	} else if err.Code != wire.CodeUnauthenticated {
		who.Because = err.Error()
	}
	send(w, http.StatusOK, who)
}

// seesServer is whether somebody gets the numbers that are of no one queue, as for /metrics.
func seesServer(v Visitor) bool { return v.May(wire.VerbPeek|wire.VerbAdmin, "") }

func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	var with struct{ User, Password, Token string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLogin)).Decode(&with); err != nil {
		refuse(w, http.StatusBadRequest, wire.Errorf(wire.CodeBadJSON, "a login is an object with user and password, or token"))
		return
	}
	text, err := p.door.Login(r, with.User, with.Password, with.Token)
	if err != nil {
		refuse(w, statusOf(err.Code), err)
		return
	}
	http.SetCookie(w, cookie(r, text, 0))
	send(w, http.StatusOK, map[string]bool{"ok": true})
}

// cookie is kept by a browser until it ends, and sent by pages of this origin only.
func cookie(r *http.Request, text string, age int) *http.Cookie {
	return &http.Cookie{Name: CookieName(r), Value: text, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode, MaxAge: age}
}

func (p *Page) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(CookieName(r)); err == nil {
		p.door.Logout(c.Value)
	}
	http.SetCookie(w, cookie(r, "", -1))
	send(w, http.StatusOK, map[string]bool{"ok": true})
}

// request carries out one request of the protocol.
func (p *Page) request(w http.ResponseWriter, r *http.Request, v Visitor) {
	line, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(p.maxBody()+lineOverhead)))
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		refuse(w, http.StatusRequestEntityTooLarge, wire.Errorf(wire.CodeLineTooLong, "the request is longer than %d bytes", large.Limit))
		return
	}
	if err != nil {
		return // the client has gone
	}
	relay(w, ask(r, v, line))
}

// statusOf is the status of HTTP that goes with a code.
func statusOf(code wire.Code) int {
	switch code {
	case wire.CodeUnauthenticated:
		return http.StatusUnauthorized
	case wire.CodeForbidden:
		return http.StatusForbidden
	case wire.CodeNotFound:
		return http.StatusNotFound
	case wire.CodeExists, wire.CodeLeaseLost, wire.CodePaused:
		return http.StatusConflict
	case wire.CodeMessageTooLarge, wire.CodeLineTooLong:
		return http.StatusRequestEntityTooLarge
	case wire.CodeRateLimited, wire.CodeTooManyConnections:
		return http.StatusTooManyRequests
	case wire.CodeBadJSON, wire.CodeBadRequest, wire.CodeUnknownOp, wire.CodeNotStored, wire.CodeTooManyQueues:
		return http.StatusBadRequest
	case wire.CodeUnknownOutcome:
		return http.StatusGatewayTimeout
	case wire.CodeInternal:
		return http.StatusInternalServerError
	}
	return http.StatusServiceUnavailable
}

// refuse answers with an error, in the form of the protocol.
func refuse(w http.ResponseWriter, status int, err *wire.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(wire.AppendError(nil, nil, err))
}

// send ignores a client that has gone.
func send(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false) // it is no HTML, and says so
	_ = out.Encode(v)
}
