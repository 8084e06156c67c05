package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	gmq "github.com/gmq/gmq/client"
	"github.com/gmq/gmq/examples/fileflow/internal/flow"
)

// uploaders is how many files are on their way at a time.
const uploaders = 6

// An act happens when that part of the files has been sent.
type act struct {
	at   float64
	name string
	do   func() error
}

// play runs the whole piece.
func play(ctx context.Context, s *stage, p *progress, files []*file, workers int) error {
	p.say("building")
	if err := s.build(ctx); err != nil {
		return err
	}
	acts := []act{
		{0, "start the broker", func() error { return s.startBroker(ctx) }},
		{0, "start the web tier", func() error { return s.startWeb(ctx) }},
		{0, "start the workers", func() error { return s.startWorkers(workers) }},
		{0.25, "kill the workers", func() error { s.killWorkers(); return nil }},
		{0.50, "kill the broker", func() error { s.broker.end(syscall.SIGKILL); return nil }},
		{0.65, "start the broker", func() error { return s.startBroker(ctx) }},
		{0.75, "start the workers", func() error { return s.startWorkers(workers) }},
	}
	sent := 0
	perform := func() error {
		for len(acts) > 0 && float64(sent) >= acts[0].at*float64(len(files)) {
			p.say(acts[0].name)
			if err := acts[0].do(); err != nil {
				return fmt.Errorf("%s: %w", acts[0].name, err)
			}
			acts = acts[1:]
		}
		return nil
	}
	if err := perform(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	uploads := upload(ctx, "http://"+s.webAddr, files)
	for sent < len(files) {
		select {
		case err := <-uploads:
			if err != nil {
				return err
			}
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		sent++
		p.sent(sent)
		if err := perform(); err != nil {
			return err
		}
	}
	return settle(ctx, s, p, files)
}

// upload sends the files and tells of each when it is done.
func upload(ctx context.Context, base string, files []*file) <-chan error {
	next := make(chan *file)
	done := make(chan error)
	go func() {
		defer close(next)
		for _, f := range files {
			select {
			case next <- f:
			case <-ctx.Done():
				return
			}
		}
	}()
	client := &http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: uploaders},
	}
	for range uploaders {
		go func() {
			for f := range next {
				err := f.send(ctx, client, base)
				select {
				case done <- err:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return done
}

// send sends one file and remembers what the web tier made of it.
func (f *file) send(ctx context.Context, client *http.Client, base string) error {
	body, err := f.read()
	if err != nil {
		return err
	}
	u := base + (&url.URL{Path: "/files/" + f.name}).EscapedPath()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var job flow.Job
	switch resp.StatusCode {
	case http.StatusAccepted:
		f.late = true
	case http.StatusCreated:
	default:
		return fmt.Errorf("%s: the web tier says %s", f.name, resp.Status)
	}
	err = json.NewDecoder(resp.Body).Decode(&job)
	f.id = job.ID
	return err
}

// settle waits until every file has its result and the queue is empty: then
// nothing is on its way any more.
func settle(ctx context.Context, s *stage, p *progress, files []*file) error {
	p.say("waiting for the workers")
	c, err := gmq.Dial(ctx, s.gmqAddr, gmq.ClientName("fileflow-demo"), gmq.Lazy())
	if err != nil {
		return err
	}
	defer c.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil // what is not there by now is reported as lost
			}
			return ctx.Err()
		}
		n, err := countResults(s.path("results"))
		if err != nil {
			return err
		}
		p.analysed(n)
		info, err := c.QueueInfo(ctx, flow.Queue)
		if err != nil {
			continue
		}
		if left := info.Counts; n >= len(files) && left.Ready+left.Leased+left.Delayed == 0 {
			return nil
		}
	}
}

func countResults(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	n := 0
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") {
			n++
		}
	}
	return n, err
}
