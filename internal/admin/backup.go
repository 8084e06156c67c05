package admin

import (
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	// actionHeader must be there, and say what is asked for: no web page can make a browser send it.
	actionHeader = "Gmq-Action"
	backupAction = "backup"
	// errorTrailer says behind a backup why it is not whole.
	errorTrailer = "Gmq-Error"

	// stallTimeout is how long the client may take for what is written at once, a quarter of a MiB at most. So
	// what a backup holds back is bounded by its size.
	stallTimeout = 30 * time.Second

	notLocalReply = "a backup holds every message: it is given to this machine only, through 127.0.0.1 or ::1\n"
	noActionReply = "a backup is made by gmq backup, or asked for with the header " + actionHeader + ": " + backupAction + "\n"
)

// backup streams a backup.
func backup(source Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", "GET")
			reply(w, http.StatusMethodNotAllowed, "only GET\n")
			return
		case !local(r.RemoteAddr):
			reply(w, http.StatusForbidden, notLocalReply)
			return
		case r.Header.Get(actionHeader) != backupAction:
			reply(w, http.StatusBadRequest, noActionReply)
			return
		}
		s := &stream{w: w, control: http.NewResponseController(w)}
		// Else the time for reading the request would end it. It fails only where there are no deadlines.
		_ = s.control.SetReadDeadline(time.Time{})
		err := source.Backup(r.Context(), s)
		switch {
		case err != nil && !s.begun:
			reply(w, http.StatusServiceUnavailable, err.Error()+"\n")
		case err != nil:
			w.Header().Set(errorTrailer, err.Error())
		}
	}
}

// local reports whether an address is of this machine's own, loopback that is.
func local(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// stream is the body of a reply that has no end by the clock, as long as somebody takes it.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// Write implements io.Writer.
func (s *stream) Write(b []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/x-tar")
		s.w.Header().Set("Trailer", errorTrailer)
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return s.w.Write(b)
}
