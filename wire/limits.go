package wire

import "time"

// The limits of single fields. A request beyond one is bad_request, and the
// error names the field, the limit and the value.
const (
	MaxInteger = 1<<53 - 1 // the largest integer every client can read
	MaxNesting = 64        // levels of the line, its own object counted

	MaxID       = 256   // bytes of an id as sent, quotes counted
	MaxName     = 255   // bytes of a queue's name, a topic, a pattern
	MaxBatch    = 10000 // messages in one publish
	MaxSeqs     = 10000 // messages in one ack, nack or extend
	MaxReceive  = 10000
	MaxCredit   = 1_000_000
	MaxLimit    = 1000
	MaxPriority = 9

	MaxKey         = 255 // bytes, as the next ones
	MaxDedupID     = 255
	MaxHeaderName  = 255
	MaxHeaders     = 16 << 10 // the whole object as sent
	MaxReceipt     = 64
	MaxReason      = 1024
	MaxClient      = 255
	MaxUser        = 255
	MaxPassword    = 1024
	MaxToken       = 1024
	MaxData        = 2048 // of hello, as sent
	MaxGrants      = 256  // in one request, of each kind
	maxWord        = 64   // names of fields, ops and choices; longer ones are none
	maxDurationLen = 64
	maxTimeLen     = 64

	MinLease       = time.Millisecond
	MaxLease       = 24 * time.Hour
	MaxWait        = 24 * time.Hour
	MaxDelay       = 87600 * time.Hour // ten years: sums with the present stay far from overflow
	MaxTTL         = 87600 * time.Hour
	MaxRetry       = 720 * time.Hour
	MaxDedupWindow = 720 * time.Hour
	MinYear        = 1970 // of at
	MaxYear        = 2199

	MaxMaxDeliveries = 65535
	MinRetryFactor   = 1
	MaxRetryFactor   = 100
	MaxRetryJitter   = 1

	DefaultPriority = 4
	DefaultLimit    = 100
)
