package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Every wait for a client has an end: this port is the one that still answers
// when something is wrong.
const (
	readTimeout      = 5 * time.Second
	writeTimeout     = 30 * time.Second
	idleTimeout      = time.Minute
	scrapeTimeout    = 20 * time.Second
	maxHeaderBytes   = 16 << 10
	scrapesAtATime   = 4
	pageList         = "/\n/api/\n/livez\n/readyz\n/metrics\n/backup\n"
	plainText        = "text/plain; charset=utf-8"
	misdirectedReply = "this address is for this machine only: ask for it as localhost or by its IP address\n"
)

// A Server answers on the admin address.
type Server struct {
	http http.Server
	stop context.CancelFunc // ends the requests that would go on for long
}

// A Page answers for the paths that it owns, whatever the method, and lets people in by itself.
type Page interface {
	http.Handler
	Owns(path string) bool
}

// New makes a server that tells what source knows, to those whom gate lets in; nil lets in everybody. page may be nil.
func New(source Source, gate Gate, page Page, logger *slog.Logger) *Server {
	errorLog := slog.NewLogLogger(logger.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := source.Ready(); err != nil {
			reply(w, http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
		reply(w, http.StatusOK, "ok\n")
	})
	mux.Handle("/metrics", promhttp.HandlerFor(newRegistry(source), promhttp.HandlerOpts{
		ErrorLog:            errorLog,
		ErrorHandling:       promhttp.ContinueOnError, // one bad series must not hide the others
		MaxRequestsInFlight: scrapesAtATime,
		Timeout:             scrapeTimeout,
	}))
	mux.HandleFunc("/backup", backup(source))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusNotFound, pageList)
	})
	ctx, stop := context.WithCancel(context.Background())
	return &Server{stop: stop, http: http.Server{
		BaseContext:       func(net.Listener) context.Context { return ctx },
		Handler:           guard(page, admit(gate, mux)),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          errorLog,
	}}
}

// Serve answers until Shutdown, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown lets running requests finish for as long as ctx allows, but for a backup, then cuts
// them off: nothing that is asked here is worth a late stop.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	err := s.http.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// guard lets pass what was meant for this server, to its page or, where it only reads, to the rest.
func guard(page Page, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case rebound(r):
			reply(w, http.StatusMisdirectedRequest, misdirectedReply)
		case page != nil && page.Owns(r.URL.Path):
			page.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			reply(w, http.StatusMethodNotAllowed, "only GET and HEAD\n")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// rebound reports whether a loopback address was reached under a foreign
// name: the sign of a web page that had its own name resolved to 127.0.0.1 in order to
// read, with somebody's browser, what only this machine may read.
func rebound(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if local == nil || !local.IP.IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.EqualFold(host, "localhost") {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err != nil
}

// reply ignores a client that has gone: there is nobody left to tell.
func reply(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", plainText)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
