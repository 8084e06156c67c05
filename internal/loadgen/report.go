package loadgen

import (
	"bytes"
	"os"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Report is what a run found. The form of its JSON has a version.
type Report struct {
	Form      int       `json:"form"`    // 1
	Started   time.Time `json:"started"` // the measuring
	Settings  Settings  `json:"settings"`
	Generator Machine   `json:"generator"`
	Server    Server    `json:"server"`

	Seconds   float64 `json:"seconds"` // that were measured
	Published Flow    `json:"published"`
	Delivered Flow    `json:"delivered"` // all copies together
	Confirm   Latency `json:"confirm_latency"`
	EndToEnd  Latency `json:"end_to_end_latency"`
	Late      Late    `json:"late"`
	Waiting   int64   `json:"waiting"` // confirmed and not delivered when the measuring ended, all copies together
	CPU       CPU     `json:"cpu"`

	Errors     map[string]int64 `json:"errors"` // messages refused, by code
	Accounting Accounting       `json:"accounting"`

	OK       bool     `json:"ok"`       // nothing below
	Problems []string `json:"problems"` // what is wrong, in words
}

// A Machine is where the generator ran.
type Machine struct {
	Version string `json:"version"` // of gmq
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	Cores   int    `json:"cores"`
	CPU     string `json:"cpu,omitempty"` // its name, where the system tells
}

// A Server is what was measured.
type Server struct {
	Address string `json:"address"`
	Version string `json:"version"`
	Node    string `json:"node"`
	Local   string `json:"local,omitempty"` // the storage of a server that was started for the run
}

// A Flow is how much a second went one way.
type Flow struct {
	Messages       int64   `json:"messages"`
	PerSecond      float64 `json:"per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"` // of bodies
}

// A Latency says how long something took, from when each message was sent, or with a rate was to be sent.
type Latency struct {
	Messages  int64   `json:"messages"`
	MeanMicro float64 `json:"mean_us"`
	P50Micro  float64 `json:"p50_us"`
	P90Micro  float64 `json:"p90_us"`
	P99Micro  float64 `json:"p99_us"`
	P999Micro float64 `json:"p99_9_us"`
	MaxMicro  float64 `json:"max_us"`
}

// Late says how far a run with a rate was from its schedule.
type Late struct {
	Messages int64   `json:"messages"` // that left more than a millisecond after their time
	Held     int64   `json:"held"`     // of them, since the window was full
	MaxMicro float64 `json:"max_us"`   // how late one was
}

// CPU is what processes used while it was measured, seconds of one core; 0 where it is not known.
type CPU struct {
	GeneratorSeconds float64 `json:"generator_seconds"`
	ServerSeconds    float64 `json:"server_seconds"`
}

// Accounting says what became of every message of the run, warm-up included.
type Accounting struct {
	Confirmed   int64 `json:"confirmed"`
	Refused     int64 `json:"refused"`
	Unknown     int64 `json:"unknown"`      // sent, and not answered
	Delivered   int64 `json:"delivered"`    // different ones, by stream
	Redelivered int64 `json:"redelivered"`  // once more, and said to be
	Dropped     int64 `json:"dropped"`      // by subscriptions to topics, as the server says
	Left        int64 `json:"left"`         // in the queues at the end
	Lost        int64 `json:"lost"`         // confirmed, and neither delivered nor left
	Twice       int64 `json:"twice"`        // delivered once more, and not said to be
	OutOfOrder  int64 `json:"out_of_order"` // of one publisher, in one subscription
	Foreign     int64 `json:"foreign"`      // delivered, and refused or never sent
	Unsettled   int64 `json:"unsettled"`    // acked, and not settled
	Judged      bool  `json:"judged"`       // all that was confirmed was waited for
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(percentile float64) float64 { return micro(time.Duration(h.ValueAtPercentile(percentile))) }
	return Latency{
		Messages: h.TotalCount(), MeanMicro: h.Mean() / 1e3,
		P50Micro: at(50), P90Micro: at(90), P99Micro: at(99), P999Micro: at(99.9), MaxMicro: micro(time.Duration(h.Max())),
	}
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// flowOf gives the flow of a tally: what happened while it was measured, or, where the number of messages was given, how
// fast those went.
func flowOf(t *tally, s Settings, sp span) (f Flow, took time.Duration) {
	f.Messages, took = t.events, sp.until-sp.from
	if s.Messages > 0 {
		f.Messages, took = t.measured, t.last-sp.from
	}
	if took > 0 {
		f.PerSecond = float64(f.Messages) / took.Seconds()
		f.BytesPerSecond = f.PerSecond * float64(s.Size)
	}
	return f, took
}

func thisMachine(version string) Machine {
	return Machine{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), CPU: cpuName()}
}

// cpuName is what Linux calls the processor; "" elsewhere.
func cpuName() string {
	text, _ := os.ReadFile("/proc/cpuinfo") // nothing, where there is no such file
	_, rest, _ := bytes.Cut(text, []byte("model name"))
	name, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(bytes.Trim(name, "\t :"))
}
