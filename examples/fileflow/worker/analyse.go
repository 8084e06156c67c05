package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/gmq/gmq/examples/fileflow/internal/flow"
)

// analyse reads a file once and tells what it is.
func analyse(name string, r io.Reader) (flow.Result, error) {
	sum := sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(r, sum), 64<<10)
	head, err := in.Peek(512) // as much as DetectContentType looks at
	if err != nil && !errors.Is(err, io.EOF) {
		return flow.Result{}, err
	}
	res := flow.Result{
		File:  name,
		Type:  http.DetectContentType(head),
		Named: mime.TypeByExtension(filepath.Ext(name)),
	}
	if strings.HasPrefix(res.Type, "text/") {
		err = countText(in, &res)
	} else {
		res.Bytes, err = io.Copy(io.Discard, in)
	}
	if err != nil {
		return flow.Result{}, err
	}
	res.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return res, nil
}

// countText counts bytes, words (what stands between white space) and lines
// (a last one without an end counts).
func countText(in *bufio.Reader, res *flow.Result) error {
	inWord, last := false, '\n'
	for {
		r, size, err := in.ReadRune()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		res.Bytes += int64(size)
		space := unicode.IsSpace(r)
		if !space && !inWord {
			res.Words++
		}
		inWord = !space
		if r == '\n' {
			res.Lines++
		}
		last = r
	}
	if last != '\n' {
		res.Lines++
	}
	return nil
}
