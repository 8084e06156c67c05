package page

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/gmq/gmq/wire"
)

// An answer is a reply of the protocol.
type answer struct {
	raw   []byte
	err   *wire.Error // nil where it succeeded
	state int         // of HTTP
}

// ask carries out a request of the protocol.
func ask(r *http.Request, v Visitor, line []byte) answer {
	ctx, cancel := context.WithTimeout(r.Context(), requestTime)
	defer cancel()
	a := answer{raw: v.Ask(ctx, line), state: http.StatusOK}
	var is struct {
		OK    bool `json:"ok"`
		Error struct {
			Code    wire.Code `json:"code"`
			Message string    `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(a.raw, &is); err != nil {
		a.err = wire.Errorf(wire.CodeInternal, "a reply that is none: %v", err)
	} else if !is.OK {
		a.err = wire.Errorf(is.Error.Code, "%s", is.Error.Message)
	}
	if a.err != nil {
		a.state = statusOf(a.err.Code)
	}
	return a
}

// askFor is ask for a request with these fields.
func askFor(r *http.Request, v Visitor, fields map[string]any) answer {
	line, err := json.Marshal(fields)
	if err != nil {
		return answer{err: wire.Errorf(wire.CodeInternal, "%v", err), state: http.StatusInternalServerError}
	}
	return ask(r, v, line)
}

// relay gives an answer on as it is.
func relay(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.state)
	_, _ = w.Write(append(a.raw, '\n'))
}
