package admin

import (
	"net/http"
)

// A Gate says who may see what. Its methods are called from many goroutines.
type Gate interface {
	// Admit reports whether whoever asks may have a page. Where not, status and text are the answer. what is one of the
	// constants below.
	Admit(r *http.Request, what string) (status int, text string)
}

// What there is to see.
const (
	SeeMetrics = "metrics"
	SeeAll     = "admin" // everything else: what a page shows that nobody has thought of, too
)

// openPages are for everybody: those who ask are machines that watch over the process, and learn nothing else.
var openPages = map[string]bool{"/livez": true, "/readyz": true}

// admit asks the gate for every page that is not open.
func admit(gate Gate, next http.Handler) http.Handler {
	if gate == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if openPages[r.URL.Path] {
			next.ServeHTTP(w, r)
			return
		}
		what := SeeAll
		if r.URL.Path == "/metrics" {
			what = SeeMetrics
		}
		if status, text := gate.Admit(r, what); status != http.StatusOK {
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="gmq", charset="UTF-8"`)
			}
			reply(w, status, text+"\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}
