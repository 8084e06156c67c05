package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Size is a number of bytes, written 1MiB, 64KiB, 5MB or 1048576.
type Size int64

// The binary units.
const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// sizeUnits are tried in this order when a size is printed.
var sizeUnits = []struct {
	name  string
	bytes Size
}{
	{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
	{"B", 1},
}

// ParseSize reads a whole number and a unit; without a unit it is bytes.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "KMGTiB")
	unit := Size(1)
	if name := s[len(digits):]; name != "" {
		unit = 0
		for _, u := range sizeUnits {
			if u.name == name {
				unit = u.bytes
			}
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || unit == 0 || n < 0 || digits[0] == '+' {
		return 0, fmt.Errorf("want a size such as 512, 64KiB, 1MiB or 5MB, not %q", s)
	}
	if Size(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("the size %s is too large", s)
	}
	return Size(n) * unit, nil
}

// String writes the size in the largest unit that leaves a whole number, and
// a number that fits none as it is.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && u.bytes > 1 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalYAML writes a number without a unit as a number, not as a string.
func (s Size) MarshalYAML() (any, error) {
	text := s.String()
	if text == strconv.FormatInt(int64(s), 10) {
		return int64(s), nil
	}
	return text, nil
}

// UnmarshalYAML reads what ParseSize reads.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParseSize(n.Value)
	if err == nil {
		*s = v
	}
	return err
}

// A Duration is a time.Duration, written 30s or 1h30m.
type Duration time.Duration

// ParseDuration reads a duration as Go writes it. A bare number other than 0
// is refused: nobody can tell whether it means seconds.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("want a duration such as 500ms, 30s or 1h30m, not %q", s)
	}
	return Duration(d), nil
}

// String leaves out the zeros that time.Duration writes at the end: 5m, not 5m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalYAML writes what String writes.
func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

// UnmarshalYAML reads what ParseDuration reads.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParseDuration(n.Value)
	if err == nil {
		*d = v
	}
	return err
}
