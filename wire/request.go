package wire

import "time"

// An Op is an operation of the protocol.
type Op uint8

// The operations. opCount is not one.
const (
	OpNone Op = iota
	OpHello
	OpPing
	OpPublish
	OpReceive
	OpSubscribe
	OpUnsubscribe
	OpAck
	OpNack
	OpExtend
	OpQueueCreate
	OpQueueUpdate
	OpQueueDelete
	OpQueuePurge
	OpQueuePause
	OpQueueResume
	OpQueueList
	OpQueueInfo
	OpQueuePeek
	OpQueueExplain
	OpQueueCancel
	OpQueueReschedule
	OpQueueRedrive
	OpQueueBind
	OpQueueUnbind
	OpServerInfo
	OpUserAdd
	OpUserRemove
	OpUserList
	OpUserPassword
	OpUserGrant
	OpTokenAdd
	OpTokenRemove
	OpTokenList
	OpAuthCheck
	OpClusterToken
	OpClusterStatus
	OpClusterRemove
	OpClusterTransfer
	OpClusterLeaders
	opCount
)

// A Field is a field of a request, or of one message in it, as one bit.
type Field uint64

// Has reports whether every field of g is in f.
func (f Field) Has(g Field) bool {
	return f&g == g
}

// The fields of requests.
const (
	FieldID Field = 1 << iota
	FieldQuiet
	FieldUser
	FieldPassword
	FieldToken
	FieldClient
	FieldProtocol
	FieldQueue
	FieldTopic
	FieldMessages
	FieldBody
	FieldHeaders
	FieldEncoding
	FieldKey
	FieldPriority
	FieldDelay
	FieldAt
	FieldTTL
	FieldDedupID
	FieldStored
	FieldCreate
	FieldMax
	FieldWait
	FieldLease
	FieldAck
	FieldCredit
	FieldSub
	FieldSeq
	FieldReceipt
	FieldReason
	FieldDead
	FieldCount
	FieldPrefix
	FieldAfter
	FieldLimit
	FieldState
	FieldTo
	// The settings of queue.create and queue.update. ttl, of these, is FieldTTL;
	// lease is FieldLease.
	FieldStorage
	FieldMaxMessages
	FieldMaxBytes
	FieldOverflow
	FieldMaxDeliveries
	FieldRetry
	FieldRetryMin
	FieldRetryMax
	FieldRetryFactor
	FieldRetryJitter
	FieldDedupWindow
	FieldDeadLetterExpired
	// Users and their rights.
	FieldMechanism
	FieldData
	FieldOf
	FieldVerb
	FieldAllow
	FieldDeny
	FieldRevoke
	FieldDrain
	fieldEnd
)

// A Message is one message of a publish, its fields as they stood in the line.
type Message struct {
	Set      Field  // which fields were there
	Body     []byte // the JSON value, byte for byte, without the white space around it
	Headers  []byte // the JSON object of strings, as it stood, or nil; never "{}"
	Base64   bool   // "encoding":"base64": Body is a string of valid base64
	Key      []byte // unescaped
	Priority uint8  // 4 where nothing is said
	Delay    time.Duration
	At       time.Time
	TTL      time.Duration
	DedupID  []byte // unescaped
	Stored   []byte // the least acceptable; unescaped, one of the six names
}

// Settings are the settings of a queue that a request names; Request.Set says
// which of them were there.
type Settings struct {
	Storage           []byte // memory | file | mysql
	MaxMessages       int64
	MaxBytes          int64
	Overflow          []byte // reject | drop_oldest | dead_letter
	Lease             time.Duration
	MaxDeliveries     int64
	RetryMin          time.Duration
	RetryMax          time.Duration
	RetryFactor       float64
	RetryJitter       float64
	TTL               time.Duration
	DedupWindow       time.Duration
	DeadLetterExpired bool
}

// A Request is one decoded line. All its byte slices are views into the line
// or into the decoder's own memory: they are valid until the next Decode, and
// only as long as the line's buffer is left alone.
type Request struct {
	Op    Op
	Set   Field  // which fields of the request were there
	ID    []byte // the JSON string or number as it was sent; nil where there was none
	Quiet bool

	User, Password, Token, Client []byte // unescaped
	Protocol                      int64
	Mechanism, Data               []byte // of hello: an exchange of several steps; Data is base64

	Name, Verb          []byte        // name is a token's, or what auth.check is about; unescaped
	Allow, Deny, Revoke [][]byte      // grants, verb:pattern; their form is checked
	TTL                 time.Duration // of token.add, where Set has FieldTTL

	Queue, Topic []byte // unescaped, their alphabet checked
	Create       bool   // true where nothing is said

	// Messages holds one message, or a batch's; Batch says that it was an array.
	Messages []Message
	Batch    bool

	Max      int64         // 1 where nothing is said
	Wait     time.Duration // 0 where nothing is said
	Lease    time.Duration // where Set has FieldLease
	AutoAck  bool          // "ack":"auto"
	Credit   int64         // 1 where nothing is said
	Sub      uint64
	Drain    bool     // of unsubscribe
	Seqs     []uint64 // seq: a number or an array; SeqArray says which
	SeqArray bool
	Receipts [][]byte // as many as Seqs, or none; unescaped
	Delay    time.Duration
	At       time.Time
	Reason   []byte
	Dead     bool
	Count    bool // true where nothing is said

	Prefix, After []byte // After of queue.list: a name
	AfterSeq      uint64 // after of queue.peek: a seq
	Limit         int64  // 100 where nothing is said
	State, To     []byte

	Settings Settings
}
