package wire

import (
	"math"
	"time"
)

// parseDuration gives what time.ParseDuration gives, without turning the bytes
// into a string first, which would allocate for each.
func parseDuration(s []byte) (time.Duration, bool) {
	negative := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	if len(s) == 1 && s[0] == '0' {
		return 0, true
	}
	if len(s) == 0 {
		return 0, false
	}
	var sum uint64
	for len(s) > 0 {
		part, rest, ok := durationPart(s)
		if !ok {
			return 0, false
		}
		s = rest
		sum += part // both are at most 1<<63: a sum beyond 64 bits becomes 0
		if sum > 1<<63 || sum == 0 && part != 0 {
			return 0, false
		}
	}
	if negative {
		return -time.Duration(sum), true
	}
	return time.Duration(sum), sum <= math.MaxInt64
}

// durationPart reads one number with its unit, at most 1<<63 ns.
func durationPart(s []byte) (ns uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(s) && class[s[i]]&inDigit != 0; i++ {
		if ns > (1<<63)/10 {
			return 0, nil, false
		}
		if ns = ns*10 + uint64(s[i]-'0'); ns > 1<<63 {
			return 0, nil, false
		}
	}
	count := i
	var frac uint64
	scale := 1.0
	if i < len(s) && s[i] == '.' {
		i++
		full := false // further digits are beyond what counts
		for ; i < len(s) && class[s[i]]&inDigit != 0; i++ {
			if full = full || frac > math.MaxInt64/10; full {
				continue
			}
			y := frac*10 + uint64(s[i]-'0')
			if full = y > 1<<63; full {
				continue
			}
			frac = y
			scale *= 10
		}
		count = i - 1
	}
	if count == 0 {
		return 0, nil, false
	}
	start := i
	for i < len(s) && s[i] != '.' && class[s[i]]&inDigit == 0 {
		i++
	}
	unit := durationUnit(s[start:i])
	if unit == 0 || ns > (1<<63)/unit {
		return 0, nil, false
	}
	ns *= unit
	if frac > 0 {
		if ns += uint64(float64(frac) * (float64(unit) / scale)); ns > 1<<63 {
			return 0, nil, false
		}
	}
	return ns, s[i:], true
}

// durationUnit is the unit's nanoseconds, or 0.
func durationUnit(s []byte) uint64 {
	switch string(s) {
	case "ns":
		return uint64(time.Nanosecond)
	case "us", "\u00b5s", "\u03bcs": // the micro sign and the Greek letter
		return uint64(time.Microsecond)
	case "ms":
		return uint64(time.Millisecond)
	case "s":
		return uint64(time.Second)
	case "m":
		return uint64(time.Minute)
	case "h":
		return uint64(time.Hour)
	}
	return 0
}
