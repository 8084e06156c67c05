package loadgen

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// A Comparison is two reports side by side.
type Comparison struct {
	Differ []Difference `json:"differ"` // in what they are not of the same thing
	Rows   []Row        `json:"rows"`
}

// A Difference is a setting, or a property of the machine, that is not the same. Server versions are expected to differ and are
// in it nevertheless.
type Difference struct {
	Name string `json:"name"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// A Row is one number of both.
type Row struct {
	Name  string  `json:"name"`
	A     float64 `json:"a"`
	B     float64 `json:"b"`
	Ratio float64 `json:"ratio"` // b to a; 0 where a is 0
}

// ReadReport reads what gmq bench -o json has printed.
func ReadReport(text []byte) (*Report, error) {
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("this is no report of gmq bench -o json: %w", err)
	}
	if r.Form != 1 {
		return nil, fmt.Errorf("this is no report of gmq bench -o json that this version can read (form %d, want 1)", r.Form)
	}
	return r, nil
}

// Compare puts b beside a.
func Compare(a, b *Report) *Comparison {
	c := &Comparison{Differ: []Difference{}}
	for _, part := range []struct {
		name string
		a, b any
	}{{"settings", a.Settings, b.Settings}, {"generator", a.Generator, b.Generator}, {"server", a.Server, b.Server}} {
		left, right := members(part.a), members(part.b)
		for _, name := range slices.Sorted(maps.Keys(left)) {
			// Where a server listens says nothing about it.
			if x, y := left[name], right[name]; x != y && name != "address" {
				c.Differ = append(c.Differ, Difference{part.name + "." + name, x, y})
			}
		}
	}
	if a.OK != b.OK {
		c.Differ = append(c.Differ, Difference{"ok", fmt.Sprint(a.OK), fmt.Sprint(b.OK)})
	}
	add := func(name string, x, y float64) {
		row := Row{Name: name, A: x, B: y}
		if x != 0 {
			row.Ratio = y / x
		}
		c.Rows = append(c.Rows, row)
	}
	add("published/s", a.Published.PerSecond, b.Published.PerSecond)
	add("delivered/s", a.Delivered.PerSecond, b.Delivered.PerSecond)
	add("published bytes/s", a.Published.BytesPerSecond, b.Published.BytesPerSecond)
	for _, l := range []struct {
		name string
		a, b Latency
	}{{"confirm", a.Confirm, b.Confirm}, {"end to end", a.EndToEnd, b.EndToEnd}} {
		add(l.name+" mean µs", l.a.MeanMicro, l.b.MeanMicro)
		add(l.name+" p50 µs", l.a.P50Micro, l.b.P50Micro)
		add(l.name+" p90 µs", l.a.P90Micro, l.b.P90Micro)
		add(l.name+" p99 µs", l.a.P99Micro, l.b.P99Micro)
		add(l.name+" p99.9 µs", l.a.P999Micro, l.b.P999Micro)
		add(l.name+" max µs", l.a.MaxMicro, l.b.MaxMicro)
	}
	add("server cpu µs/message", a.serverMicro(), b.serverMicro())
	add("generator cpu µs/message", a.generatorMicro(), b.generatorMicro())
	add("refused", float64(a.Accounting.Refused), float64(b.Accounting.Refused))
	add("late", float64(a.Late.Messages), float64(b.Late.Messages))
	return c
}

// serverMicro is what a message cost the server; 0 where it is not known.
func (r *Report) serverMicro() float64 { return perMessage(r.CPU.ServerSeconds, r.Published.Messages) }

func (r *Report) generatorMicro() float64 {
	return perMessage(r.CPU.GeneratorSeconds, r.Published.Messages)
}

func perMessage(seconds float64, messages int64) float64 {
	if messages == 0 {
		return 0
	}
	return seconds * 1e6 / float64(messages)
}

// members are the fields of a struct as they are in its JSON.
func members(v any) map[string]string {
	var raw map[string]json.RawMessage
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &raw)
	}
	if err != nil {
		panic(err) // structs of numbers and strings can always be written, and read again
	}
	all := map[string]string{}
	for name, value := range raw {
		all[name] = string(value)
	}
	return all
}
