package loadgen

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs against a fake server, in virtual time.
func inBubble(t *testing.T, s *fakeServer, set Settings, check func(*Report)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r, err := Run(t.Context(), Options{Settings: set, Dial: s.dial, Patience: 10 * time.Second, newAlarm: newCoarseAlarm})
		if err != nil {
			t.Fatal(err)
		}
		check(r)
	})
}

func fakeSettings() Settings {
	return Settings{Publishers: 1, Consumers: 1, Queues: 1, Window: 10, Batch: 1, Size: MinSize, Ack: AckReceipt, Credit: 100, Messages: 1000}
}

func TestFaultsAreFound(t *testing.T) {
	t.Parallel()
	once := []int{0}
	for name, test := range map[string]struct {
		publish func(n int) (string, []int)
		deaf    bool
		want    func(*Accounting) int64
		n       int64
		text    string
	}{
		"none": {publish: func(int) (string, []int) { return "", once }, want: func(a *Accounting) int64 { return a.Lost + a.Twice + a.OutOfOrder + a.Foreign + a.Unsettled }},
		"lost": {publish: func(n int) (string, []int) {
			if n%500 == 17 {
				return "", nil
			}
			return "", once
		}, want: func(a *Accounting) int64 { return a.Lost }, n: 2, text: "2 messages were confirmed and are lost"},
		"twice": {publish: func(n int) (string, []int) {
			if n == 17 {
				return "", []int{0, 0}
			}
			return "", once
		}, want: func(a *Accounting) int64 { return a.Twice }, n: 1, text: "message 17 of publisher 0 was delivered twice"},
		"out of order": {publish: func(n int) (string, []int) {
			if n == 17 {
				return "", []int{2}
			}
			return "", once
		}, want: func(a *Accounting) int64 { return a.OutOfOrder }, n: 2, text: "message 15 of publisher 0 was delivered after message 17"},
		"refused and delivered": {publish: func(n int) (string, []int) {
			if n == 17 {
				return "queue_full", once
			}
			return "", once
		}, want: func(a *Accounting) int64 { return a.Foreign }, n: 1, text: "refused or never sent"},
		"not settled": {
			publish: func(int) (string, []int) { return "", once }, deaf: true,
			want: func(a *Accounting) int64 { return a.Unsettled }, n: 1000, text: "did not settle them",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, &fakeServer{publish: test.publish, deaf: test.deaf}, fakeSettings(), func(r *Report) {
				if got := test.want(&r.Accounting); got != test.n {
					t.Errorf("%d, not %d: %+v", got, test.n, r.Accounting)
				}
				if r.OK != (test.n == 0) || !strings.Contains(strings.Join(r.Problems, "\n"), test.text) {
					t.Errorf("OK is %v, problems: %q", r.OK, r.Problems)
				}
			})
		})
	}
}

// Refusals that may not happen again are counted, and the run goes on.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := &fakeServer{publish: func(n int) (string, []int) {
		if n%10 == 3 {
			return "queue_full", nil
		}
		return "", []int{0}
	}}
	inBubble(t, s, fakeSettings(), func(r *Report) {
		a := r.Accounting
		if !r.OK || a.Refused != 100 || r.Errors["queue_full"] != 100 || a.Confirmed != 900 || a.Delivered != 900 || r.Confirm.Messages != 900 {
			t.Errorf("%+v", r)
		}
	})
}

// So are acks that are refused as the lead of a queue has moved; others end the run.
func TestRefusedAcks(t *testing.T) {
	t.Parallel()
	inBubble(t, &fakeServer{acks: []string{"lease_lost", "no_quorum"}}, fakeSettings(), func(r *Report) {
		if !r.OK || r.Accounting.Unsettled != 0 || r.Accounting.Delivered != 1000 || r.Errors["lease_lost"] != 1 || r.Errors["no_quorum"] != 1 {
			t.Errorf("%+v", r)
		}
	})
	inBubble(t, &fakeServer{acks: []string{"not_found"}}, fakeSettings(), func(r *Report) {
		if r.OK || !strings.Contains(strings.Join(r.Problems, "\n"), "an ack was refused: not_found") {
			t.Errorf("%+v", r)
		}
	})
}

// A refusal that every message would meet ends the run.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	s := &fakeServer{publish: func(int) (string, []int) { return "not_stored", nil }}
	inBubble(t, s, fakeSettings(), func(r *Report) {
		if r.OK || !strings.Contains(strings.Join(r.Problems, "\n"), "not_stored: no") || r.Accounting.Confirmed != 0 || r.Accounting.Refused == 0 {
			t.Errorf("%+v", r)
		}
		if !slices.Contains(s.requests, "queue.delete") {
			t.Errorf("the queue is still there: %q", s.requests)
		}
	})
}

// A server that stands still for a second in the middle is charged for every message that was to be sent meanwhile,
// though the generator did not send them: half a second in the mean, and the window says which were held up.
func TestOpenLoopHasNoCoordinatedOmission(t *testing.T) {
	t.Parallel()
	set := fakeSettings()
	set.Rate, set.Messages, set.Duration = 1000, 0, 10*time.Second
	s := &fakeServer{stall: func(n int) time.Duration {
		if n == 5000 {
			return time.Second
		}
		return 0
	}}
	inBubble(t, s, set, func(r *Report) {
		if !r.OK || r.Confirm.Messages != 10_000 || r.EndToEnd.Messages != 10_000 {
			t.Fatalf("%+v", r)
		}
		for name, l := range map[string]Latency{"confirm": r.Confirm, "end to end": r.EndToEnd} {
			// 1000 of the 10,000 waited, one of them 1000 ms, the next 999 ms, and so on.
			if mean := 500.5 * 1000 / 10; l.MeanMicro < mean*0.98 || l.MeanMicro > mean*1.02 {
				t.Errorf("%s: the mean is %v µs, not %v: %+v", name, l.MeanMicro, mean, l)
			}
			if l.P50Micro > 1 || l.P99Micro < 890e3 || l.P99Micro > 910e3 || l.MaxMicro < 999e3 || l.MaxMicro > 1001e3 {
				t.Errorf("%s: %+v", name, l)
			}
		}
		// The stalled one went in time. A pipe holds nothing, so the next one was read when the stall was over; what came
		// behind it left late, but for the last two milliseconds.
		if l := r.Late; l.Messages < 980 || l.Messages > 999 || l.Held == 0 || l.MaxMicro < 985e3 || l.MaxMicro > 999e3 {
			t.Errorf("%+v", l)
		}
		if r.Published.PerSecond < 999 || r.Published.PerSecond > 1001 {
			t.Errorf("%+v", r.Published)
		}
	})
}

// The same in a closed loop shows how much that hides.
func TestClosedLoop(t *testing.T) {
	t.Parallel()
	set := fakeSettings()
	set.Window, set.Messages, set.Duration, set.Warmup = 1, 0, 10*time.Second, time.Second
	s := &fakeServer{stall: func(n int) time.Duration { return time.Millisecond }}
	inBubble(t, s, set, func(r *Report) {
		if !r.OK || r.Confirm.Messages < 9990 || r.Confirm.Messages > 10_001 || r.Confirm.P50Micro < 999 || r.Confirm.MaxMicro > 1001 {
			t.Errorf("%+v", r)
		}
		if a := r.Accounting; a.Confirmed < 10_990 || a.Confirmed > 11_001 || a.Delivered != a.Confirmed {
			t.Errorf("the warm-up is missing: %+v", a)
		}
	})
}

func TestEndedEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{stall: func(int) time.Duration { return time.Millisecond }}
		set := fakeSettings()
		set.Messages, set.Duration = 0, time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		r, err := Run(ctx, Options{Settings: set, Dial: s.dial, Patience: 10 * time.Second, newAlarm: newCoarseAlarm})
		if err != nil {
			t.Fatal(err)
		}
		if !r.OK || r.Seconds != 3 || r.Published.PerSecond < 990 || r.Published.PerSecond > 1010 || !r.Accounting.Judged {
			t.Errorf("%+v", r)
		}
		if !slices.Contains(s.requests, "queue.delete") {
			t.Errorf("the queue is still there: %q", s.requests)
		}
	})
}

// Progress comes once a second, with what has happened in it.
func TestProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{stall: func(int) time.Duration { return time.Millisecond }}
		set := fakeSettings()
		set.Messages, set.Duration, set.Warmup = 0, 3500*time.Millisecond, time.Second
		var told []Progress
		_, err := Run(t.Context(), Options{Settings: set, Dial: s.dial, Patience: 10 * time.Second, newAlarm: newCoarseAlarm, Progress: func(p Progress) { told = append(told, p) }})
		if err != nil {
			t.Fatal(err)
		}
		if len(told) != 4 || told[0].Elapsed != 0 || told[3].Elapsed != 3*time.Second {
			t.Fatalf("%+v", told)
		}
		for _, p := range told {
			if p.Published < 990 || p.Published > 1010 || p.Refused != 0 || p.Draining {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for text, change := range map[string]func(*Settings){
		"--publishers: want 1":       func(s *Settings) { s.Publishers = 0 },
		"--size: want 36":            func(s *Settings) { s.Size = 35 },
		"--duration: want more":      func(s *Settings) { s.Messages = 0 },
		"--batch: want at most":      func(s *Settings) { s.Window, s.Batch = 10, 11 },
		"--subscribers are of":       func(s *Settings) { s.Subscribers = 1 },
		"--queues: want 1":           func(s *Settings) { s.Queues, s.Consumers = 0, 0 },
		"--queues: want a multiple":  func(s *Settings) { s.Topics, s.Queues = 2, 3 },
		"--consumers have nothing":   func(s *Settings) { s.Topics, s.Queues = 1, 0 },
		"--queue and --queues":       func(s *Settings) { s.Queue, s.Queues = "a", 2 },
		"--queues times":             func(s *Settings) { s.Queues, s.Publishers = 1_000_000, 100 },
		"--ack: want":                func(s *Settings) { s.Ack = "x" },
		"--rate: want":               func(s *Settings) { s.Rate = -1 },
		"--size: the server takes":   func(s *Settings) { s.Size = 2 << 20 },
		"--batch: 10000 messages of": func(s *Settings) { s.Batch, s.Window = 10_000, 10_000; s.Size = 1000 },
	} {
		set := fakeSettings()
		change(&set)
		s := &fakeServer{}
		_, err := Run(t.Context(), Options{Settings: set, Dial: s.dial, Patience: time.Minute})
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, not %s", err, text)
		}
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	nobody := errors.New("nobody is there")
	dial := func(context.Context) (net.Conn, error) { return nil, nobody }
	if _, err := Run(t.Context(), Options{Settings: fakeSettings(), Dial: dial}); !errors.Is(err, nobody) {
		t.Error(err)
	}
}
