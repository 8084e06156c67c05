package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/loadgen"
)

// benchProgress is a line for a person who waits.
func benchProgress(p loadgen.Progress) string {
	phase := "measuring"
	if p.Draining {
		phase = "draining"
	} else if p.Elapsed < 0 {
		phase = "warm-up"
	}
	text := fmt.Sprintf("%4.0fs %-9s  %12s/s confirmed  %12s/s delivered", p.Elapsed.Seconds(), phase, grouped(p.Published), grouped(p.Delivered))
	if p.Waiting > 0 {
		text += "  " + grouped(p.Waiting) + " waiting"
	}
	if p.Refused > 0 {
		text += "  " + grouped(p.Refused) + " refused"
	}
	return text
}

func printBench(w io.Writer, r *loadgen.Report) error {
	fmt.Fprintf(w, "%s\n%s\n\n", benchServer(&r.Server), benchLoad(&r.Settings))
	flow := func(name string, f loadgen.Flow) []string {
		return []string{name, grouped(f.Messages), grouped(int64(f.PerSecond)), bytesText(int64(f.BytesPerSecond)) + "/s"}
	}
	err := table(w, 1, [][]string{
		{"", "messages", "a second", "bodies"}, flow("published", r.Published), flow("delivered", r.Delivered),
	})
	if err != nil {
		return err
	}
	latency := func(name string, l loadgen.Latency) []string {
		row := []string{name}
		for _, v := range []float64{l.MeanMicro, l.P50Micro, l.P90Micro, l.P99Micro, l.P999Micro, l.MaxMicro} {
			row = append(row, short(time.Duration(v*1e3)))
		}
		return row
	}
	rows := [][]string{{"latency", "mean", "p50", "p90", "p99", "p99.9", "max"}, latency("confirm", r.Confirm)}
	if r.EndToEnd.Messages > 0 {
		rows = append(rows, latency("end to end", r.EndToEnd))
	}
	fmt.Fprintln(w)
	if err := table(w, 1, rows); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s\n", strings.Join(benchRemarks(r), "\n"))
	return err
}

func benchServer(s *loadgen.Server) string {
	text := fmt.Sprintf("server %s (gmq %s, node %s)", s.Address, s.Version, s.Node)
	if s.Local != "" {
		text += ", started for this with storage " + s.Local
	}
	return text
}

// benchLoad is what was done, in one line.
func benchLoad(s *loadgen.Settings) string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, plural(n, what))
		}
	}
	add(s.Publishers, "publisher")
	add(s.Consumers, "consumer")
	add(s.Subscribers, "subscriber")
	add(s.Idle, "idle subscriber")
	add(s.Topics, "topic")
	add(s.Queues, "queue")
	parts = append(parts, plural(s.Size, "byte"))
	if s.Batch > 1 {
		parts = append(parts, "batches of "+grouped(s.Batch))
	}
	if s.Rate > 0 {
		parts = append(parts, strconv.FormatFloat(s.Rate, 'f', -1, 64)+" messages a second on a schedule")
	} else {
		parts = append(parts, "window "+grouped(s.Window))
	}
	if s.Messages > 0 {
		parts = append(parts, plural(s.Messages, "message"))
	} else {
		parts = append(parts, s.Duration.String())
	}
	return strings.Join(parts, ", ") + " after a warm-up of " + s.Warmup.String()
}

// benchRemarks are what the tables do not say.
func benchRemarks(r *loadgen.Report) (lines []string) {
	a := &r.Accounting
	cpu := func(name string, seconds float64) string {
		return fmt.Sprintf("%s %.2f cores, %.2f µs a message", name, seconds/max(r.Seconds, 1e-9), seconds*1e6/float64(max(r.Published.Messages, 1)))
	}
	used := "processors: " + cpu("generator", r.CPU.GeneratorSeconds)
	if r.CPU.ServerSeconds > 0 {
		used += "; " + cpu("server", r.CPU.ServerSeconds)
	}
	lines = append(lines, fmt.Sprintf("%s; %s", used, plural(r.Generator.Cores, "core")))
	if r.Settings.Rate > 0 {
		lines = append(lines, fmt.Sprintf("late: %s left more than 1ms after their time, %s of them since the window was full; at most %s",
			grouped(r.Late.Messages), grouped(r.Late.Held), short(time.Duration(r.Late.MaxMicro*1e3))))
	}
	if r.Waiting > 0 {
		lines = append(lines, fmt.Sprintf("waiting: %s when the measuring ended, confirmed and not delivered", plural(r.Waiting, "message")))
	}
	for _, code := range slices.Sorted(maps.Keys(r.Errors)) {
		lines = append(lines, fmt.Sprintf("refused: %s with %s", plural(r.Errors[code], "message"), code))
	}
	for _, n := range []struct {
		n    int64
		text string
	}{{a.Unknown, "sent and not answered"}, {a.Redelivered, "redelivered"}, {a.Dropped, "dropped by slow subscriptions"}} {
		if n.n > 0 {
			lines = append(lines, fmt.Sprintf("%s: %s", n.text, grouped(n.n)))
		}
	}
	checked := fmt.Sprintf("checked: %s confirmed, %s delivered, %s lost, %s twice, %s out of order", grouped(a.Confirmed), grouped(a.Delivered), grouped(a.Lost), grouped(a.Twice), grouped(a.OutOfOrder))
	if !a.Judged {
		checked += "; it ended before all was delivered, so nothing is said of what is lost"
	}
	lines = append(lines, checked)
	for _, p := range r.Problems {
		lines = append(lines, "PROBLEM: "+p)
	}
	return lines
}

func benchCompare(cmd *cobra.Command, g *globals, files []string) error {
	if len(files) != 2 {
		return usage("--compare: want two files that gmq bench -o json has written, not %d", len(files))
	}
	var reports [2]*loadgen.Report
	for i, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if reports[i], err = loadgen.ReadReport(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	c := loadgen.Compare(reports[0], reports[1])
	if g.json() {
		return printJSON(cmd.OutOrStdout(), c)
	}
	w := cmd.OutOrStdout()
	if len(c.Differ) > 0 {
		fmt.Fprintln(w, "The two are not of the same thing:")
		for _, d := range c.Differ {
			fmt.Fprintf(w, "  %s: %s and %s\n", d.Name, d.A, d.B)
		}
		fmt.Fprintln(w)
	}
	rows := [][]string{{"", files[0], files[1], "ratio"}}
	for _, row := range c.Rows {
		ratio := ""
		if row.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", row.Ratio)
		}
		rows = append(rows, []string{row.Name, benchNumber(row.A), benchNumber(row.B), ratio})
	}
	return table(w, 1, rows)
}

// benchNumber leaves out digits that mean nothing.
func benchNumber(v float64) string {
	if v >= 100 || v == math.Trunc(v) {
		return grouped(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
