package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/wire"
)

// A source gives one body after the other, as the client's Send takes them, and io.EOF at the
// end. A *refusal is about one body only. What it gives is valid until the next call.
type source func() (body any, line int, err error)

// source is where the bodies come from; many says that there may be any number of them.
func (f *pubFlags) source(cmd *cobra.Command, args []string, limit int) (src source, many bool, err error) {
	whole := f.json || f.base64 || f.file != ""
	switch {
	case len(args) > 0:
		src, err = oneBody([]byte(args[0]), f.json, f.base64, limit)
		return src, false, err
	case f.file != "" && f.file != "-":
		file, err := os.Open(f.file)
		if err != nil {
			return nil, false, err
		}
		defer file.Close()
		src, err = wholeBody(file, f.json, limit)
		return src, false, err
	case whole && (f.file != "" || f.base64):
		src, err = wholeBody(cmd.InOrStdin(), f.json, limit)
		return src, false, err
	}
	l := &lines{r: bufio.NewReaderSize(cmd.InOrStdin(), 64<<10), json: f.json, limit: limit}
	return l.next, true, nil
}

func wholeBody(r io.Reader, asJSON bool, limit int) (source, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	return oneBody(data, asJSON, !asJSON, limit)
}

func oneBody(data []byte, asJSON, asBytes bool, limit int) (source, error) {
	var body any
	var err error
	if asBytes {
		body, err = data, sizeOfBytes(len(data), limit)
	} else {
		body, err = lineBody(data, asJSON, limit)
	}
	if err != nil {
		return nil, inWords(err)
	}
	return func() (any, int, error) {
		b := body
		body = nil
		if b == nil {
			return nil, 0, io.EOF
		}
		return b, 0, nil
	}, nil
}

// sizeOfBytes checks what n bytes become on the wire: base64 in quotes.
func sizeOfBytes(n, limit int) error {
	if limit > 0 && (n+2)/3*4+2 > limit {
		return tooLarge(limit)
	}
	return nil
}

// lineBody makes a body of a text.
func lineBody(text []byte, asJSON bool, limit int) (any, error) {
	if asJSON {
		text = bytes.TrimSpace(text)
		switch {
		case limit > 0 && len(text) > limit:
			return nil, tooLarge(limit)
		case !json.Valid(text):
			return nil, errors.New("not JSON; without --json it is sent as a string")
		}
		return json.RawMessage(text), nil
	}
	// A byte becomes six where it has to be escaped, and at least one.
	if limit > 0 && (len(text)+2 > limit || 6*len(text)+2 > limit && len(wire.AppendString(nil, text)) > limit) {
		return nil, tooLarge(limit)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8; send it as bytes with --base64 or --file")
	}
	return string(text), nil
}

// lines is stdin with a message in every line. A line that is too long is never held whole.
type lines struct {
	r     *bufio.Reader
	json  bool
	limit int
	no    int
	long  []byte // a line that is longer than the reader's buffer
}

func (l *lines) next() (any, int, error) {
	for {
		text, over, err := l.read()
		if err != nil {
			return nil, l.no, err
		}
		l.no++
		if over {
			return nil, l.no, &refusal{l.no, tooLarge(l.limit)}
		}
		if l.json && len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		body, err := lineBody(text, l.json, l.limit)
		if err != nil {
			err = &refusal{l.no, err}
		}
		return body, l.no, err
	}
}

// read gives a line without its end; over says that it was too long and has been passed over.
func (l *lines) read() (text []byte, over bool, err error) {
	part, err := l.r.ReadSlice('\n')
	if err == nil {
		return part[:len(part)-1], false, nil
	}
	l.long = append(l.long[:0], part...)
	for errors.Is(err, bufio.ErrBufferFull) {
		part, err = l.r.ReadSlice('\n')
		if l.limit > 0 && len(l.long)+len(part) > l.limit+len("\n")+64 {
			over = true
		} else {
			l.long = append(l.long, part...)
		}
	}
	switch {
	case err == nil:
		return bytes.TrimSuffix(l.long, []byte("\n")), over, nil
	case errors.Is(err, io.EOF) && (len(l.long) > 0 || over):
		return l.long, over, nil // the last line has no end
	case errors.Is(err, io.EOF):
		return nil, false, io.EOF
	}
	return nil, false, fmt.Errorf("stdin: %w", err)
}
