package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Overflow says what becomes of a publish that finds its queue full.
type Overflow uint8

// The overflow policies.
const (
	Reject       Overflow = iota // the publish fails
	DropOldest                   // the oldest message that is not leased goes
	DeadLetterIt                 // the oldest message that is not leased moves to the dead-letter queue
)

// Settings are a queue's own, copied from the defaults when it is created. What every message is asked about comes first.
type Settings struct {
	MaxMessages   int64         // ready, delayed and leased; 0: no limit
	MaxBytes      int64         // of their bodies; 0: no limit
	TTL           time.Duration // 0: none
	Overflow      Overflow
	Storage       string // the storage's name; never changes
	Lease         time.Duration
	MaxDeliveries int64 // 0: no limit
	RetryMin      time.Duration
	RetryMax      time.Duration
	RetryFactor   float64
	RetryJitter   float64       // 0.2: ±20 %
	DedupWindow   time.Duration // 0: ids are not looked at

	DeadLetterExpired bool // what outlives its ttl becomes a dead letter
}

// String is for people, and in the order in which it always was: that of the fields is for the processor.
func (s Settings) String() string {
	return fmt.Sprintf("{Storage:%s MaxMessages:%d MaxBytes:%d Overflow:%d Lease:%v MaxDeliveries:%d RetryMin:%v RetryMax:%v RetryFactor:%v RetryJitter:%v TTL:%v DedupWindow:%v DeadLetterExpired:%v}",
		s.Storage, s.MaxMessages, s.MaxBytes, s.Overflow, s.Lease, s.MaxDeliveries, s.RetryMin, s.RetryMax, s.RetryFactor, s.RetryJitter, s.TTL, s.DedupWindow, s.DeadLetterExpired)
}

// DeadSuffix ends the name of a dead-letter queue: the messages of "a" that cannot
// be delivered move to "a.dlq".
const DeadSuffix = ".dlq"

// SourceName is the name of the queue whose dead letters go to name, and
// whether name is that of a dead-letter queue at all.
func SourceName(name string) (string, bool) {
	s, ok := strings.CutSuffix(name, DeadSuffix)
	return s, ok && s != ""
}

// Ephemeral reports whether a queue of that name lives as long as the subscription that it was made for.
func Ephemeral(name string) bool { return name != "" && name[0] == '.' }

// DeadName is the name of the dead-letter queue of name, "" where it can have none:
// where it is one itself, or ephemeral.
func DeadName(name string) string {
	if _, dead := SourceName(name); dead || Ephemeral(name) {
		return ""
	}
	return name + DeadSuffix
}

// Backoff is how long a message waits after its n-th counted attempt (from 1):
// RetryMin, growing by RetryFactor to RetryMax, then spread by ±RetryJitter with chance, a
// random number.
func (s *Settings) Backoff(n int, chance uint64) time.Duration {
	d := float64(s.RetryMin) * math.Pow(math.Max(s.RetryFactor, 1), float64(max(n-1, 0)))
	d = math.Min(d, float64(s.RetryMax))
	unit := float64(chance>>11) / (1 << 53) // [0,1)
	d *= 1 + s.RetryJitter*(2*unit-1)
	if !(d > 0) { // nor a number, where 0 grew without end
		return 0
	}
	return time.Duration(math.Min(d, math.MaxInt64/4))
}

const settingsVersion = 1

// appendSettings and readSettings are the settings' form in records and snapshots.
func appendSettings(dst []byte, s *Settings) []byte {
	dst = append(dst, settingsVersion)
	dst = appendString(dst, s.Storage)
	for _, v := range [...]int64{s.MaxMessages, s.MaxBytes, int64(s.Overflow), int64(s.Lease), s.MaxDeliveries,
		int64(s.RetryMin), int64(s.RetryMax), int64(s.TTL), int64(s.DedupWindow)} {
		dst = binary.AppendVarint(dst, v)
	}
	expired := byte(0)
	if s.DeadLetterExpired {
		expired = 1
	}
	dst = append(dst, expired)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.RetryFactor))
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.RetryJitter))
}

func (r *reader) settings() (s Settings) {
	if v := r.byte(); v != settingsVersion {
		r.fail(errors.New("settings of an unknown version"))
		return s
	}
	s.Storage = r.string()
	s.MaxMessages, s.MaxBytes = r.varint(), r.varint()
	s.Overflow = Overflow(r.varint())
	s.Lease, s.MaxDeliveries = time.Duration(r.varint()), r.varint()
	s.RetryMin, s.RetryMax = time.Duration(r.varint()), time.Duration(r.varint())
	s.TTL, s.DedupWindow = time.Duration(r.varint()), time.Duration(r.varint())
	s.DeadLetterExpired = r.byte() != 0
	s.RetryFactor = math.Float64frombits(r.uint64())
	s.RetryJitter = math.Float64frombits(r.uint64())
	return s
}
