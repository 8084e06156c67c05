package wire

import "math/bits"

const (
	always        = FieldID | FieldQuiet
	messageFields = FieldBody | FieldHeaders | FieldEncoding | FieldKey | FieldPriority |
		FieldDelay | FieldAt | FieldTTL | FieldDedupID | FieldStored
	retryFields   = FieldRetryMin | FieldRetryMax | FieldRetryFactor | FieldRetryJitter
	settingFields = FieldStorage | FieldMaxMessages | FieldMaxBytes | FieldOverflow | FieldLease |
		FieldMaxDeliveries | FieldRetry | retryFields | FieldTTL | FieldDedupWindow |
		FieldDeadLetterExpired
	settled = FieldQueue | FieldSeq | FieldReceipt

	// Names of the envelope that are no fields of a Request.
	fieldOp        = fieldEnd
	fieldOperation = fieldEnd << 1
)

// ops is what the operations are called, what they may have and what they must
// have. needs names fields that are needed each; one those of which exactly
// one is.
var ops = [opCount]struct {
	name   string
	fields Field
	needs  Field
	one    Field
}{
	OpHello:           {"hello", FieldUser | FieldPassword | FieldToken | FieldMechanism | FieldData | FieldClient | FieldProtocol, 0, 0},
	OpPing:            {"ping", 0, 0, 0},
	OpPublish:         {"publish", FieldQueue | FieldTopic | FieldMessages | FieldCreate | messageFields, 0, FieldQueue | FieldTopic},
	OpReceive:         {"receive", FieldQueue | FieldMax | FieldWait | FieldLease | FieldAck | FieldCreate, FieldQueue, 0},
	OpSubscribe:       {"subscribe", FieldQueue | FieldTopic | FieldCredit | FieldLease | FieldAck | FieldCreate, 0, FieldQueue | FieldTopic},
	OpUnsubscribe:     {"unsubscribe", FieldSub | FieldDrain, FieldSub, 0},
	OpAck:             {"ack", settled, FieldQueue | FieldSeq, 0},
	OpNack:            {"nack", settled | FieldDelay | FieldReason | FieldDead | FieldCount, FieldQueue | FieldSeq, 0},
	OpExtend:          {"extend", settled | FieldLease, FieldQueue | FieldSeq | FieldLease, 0},
	OpQueueCreate:     {"queue.create", FieldQueue | settingFields, FieldQueue, 0},
	OpQueueUpdate:     {"queue.update", FieldQueue | settingFields, FieldQueue, 0},
	OpQueueDelete:     {"queue.delete", FieldQueue, FieldQueue, 0},
	OpQueuePurge:      {"queue.purge", FieldQueue | FieldState, FieldQueue, 0},
	OpQueuePause:      {"queue.pause", FieldQueue, FieldQueue, 0},
	OpQueueResume:     {"queue.resume", FieldQueue, FieldQueue, 0},
	OpQueueList:       {"queue.list", FieldPrefix | FieldAfter | FieldLimit, 0, 0},
	OpQueueInfo:       {"queue.info", FieldQueue, FieldQueue, 0},
	OpQueuePeek:       {"queue.peek", FieldQueue | FieldState | FieldAfter | FieldLimit, FieldQueue, 0},
	OpQueueExplain:    {"queue.explain", FieldQueue | FieldSeq, FieldQueue | FieldSeq, 0},
	OpQueueCancel:     {"queue.cancel", FieldQueue | FieldSeq, FieldQueue | FieldSeq, 0},
	OpQueueReschedule: {"queue.reschedule", FieldQueue | FieldSeq | FieldDelay | FieldAt, FieldQueue | FieldSeq, FieldDelay | FieldAt},
	OpQueueRedrive:    {"queue.redrive", FieldQueue | FieldTo | FieldMax, FieldQueue, 0},
	OpQueueBind:       {"queue.bind", FieldQueue | FieldTopic, FieldQueue | FieldTopic, 0},
	OpQueueUnbind:     {"queue.unbind", FieldQueue | FieldTopic, FieldQueue | FieldTopic, 0},
	OpServerInfo:      {"server.info", 0, 0, 0},
	OpUserAdd:         {"user.add", FieldUser | FieldPassword | FieldAllow | FieldDeny, FieldUser, 0},
	OpUserRemove:      {"user.remove", FieldUser, FieldUser, 0},
	OpUserList:        {"user.list", FieldPrefix | FieldAfter | FieldLimit, 0, 0},
	OpUserPassword:    {"user.password", FieldUser | FieldPassword, FieldUser, 0},
	OpUserGrant:       {"user.grant", FieldUser | FieldAllow | FieldDeny | FieldRevoke, FieldUser, 0},
	OpTokenAdd:        {"token.add", FieldOf | FieldUser | FieldAllow | FieldDeny | FieldTTL, FieldOf, 0},
	OpTokenRemove:     {"token.remove", FieldOf, FieldOf, 0},
	OpTokenList:       {"token.list", FieldPrefix | FieldAfter | FieldLimit, 0, 0},
	OpAuthCheck:       {"auth.check", FieldUser | FieldVerb | FieldOf, FieldUser | FieldVerb | FieldOf, 0},
	OpClusterToken:    {"cluster.token", FieldTTL, 0, 0},
	OpClusterStatus:   {"cluster.status", 0, 0, 0},
	OpClusterRemove:   {"cluster.remove", FieldOf, FieldOf, 0},
	OpClusterTransfer: {"cluster.transfer", FieldOf, 0, 0},
	OpClusterLeaders:  {"cluster.leaders", FieldQueue, 0, 0},
}

// String gives the operation's name on the wire.
func (o Op) String() string {
	if o == OpNone || o >= opCount {
		return "none"
	}
	return ops[o].name
}

// OpFields gives the fields that a request of this operation may have.
func OpFields(o Op) Field {
	if o == OpNone || o >= opCount {
		return 0
	}
	return ops[o].fields | always
}

// OpNeeds gives the fields without which a request of this operation means nothing: all those of needs,
// and exactly one of those of one, if there are any.
func OpNeeds(o Op) (needs, one Field) {
	if o == OpNone || o >= opCount {
		return 0, 0
	}
	return ops[o].needs, ops[o].one
}

// Ops gives all operations.
func Ops() []Op {
	all := make([]Op, 0, opCount-1)
	for o := OpNone + 1; o < opCount; o++ {
		all = append(all, o)
	}
	return all
}

// ParseOp gives the operation of that name, or OpNone.
func ParseOp(name []byte) Op {
	switch string(name) { // what is said most often needs no search
	case "publish":
		return OpPublish
	case "ack":
		return OpAck
	case "receive":
		return OpReceive
	}
	return opByName[string(name)]
}

var opByName = func() map[string]Op {
	m := make(map[string]Op, opCount)
	for o := OpNone + 1; o < opCount; o++ {
		m[ops[o].name] = o
	}
	return m
}()

// fieldNames are the names by bit; those of retry are written as paths.
var fieldNames = [...]string{
	"id", "quiet", "user", "password", "token", "client", "protocol", "queue",
	"topic", "messages", "body", "headers", "encoding", "key", "priority",
	"delay", "at", "ttl", "dedup_id", "stored", "create", "max", "wait", "lease",
	"ack", "credit", "sub", "seq", "receipt", "reason", "dead", "count",
	"prefix", "after", "limit", "state", "to", "storage", "max_messages",
	"max_bytes", "overflow", "max_deliveries", "retry", "retry.min",
	"retry.max", "retry.factor", "retry.jitter", "dedup_window",
	"dead_letter_expired", "mechanism", "data", "name", "verb", "allow", "deny",
	"revoke", "drain", "op", "operation",
}

// FieldName gives the name of a field on the wire; of several, that of the
// first. Those inside retry are called "retry.min" and so on.
func FieldName(f Field) string {
	if n := bits.TrailingZeros64(uint64(f)); n < len(fieldNames) {
		return fieldNames[n]
	}
	return "none"
}

// fieldByName has the fields of a line and of a message in it.
var fieldByName = func() map[string]Field {
	m := make(map[string]Field, len(fieldNames))
	for n, name := range fieldNames {
		if f := Field(1) << n; retryFields&f == 0 {
			m[name] = f
		}
	}
	return m
}()

// lookup gives the field of that name, or 0.
func lookup(name []byte) Field {
	switch string(name) { // the hot ones, for which the map is too slow
	case "op":
		return fieldOp
	case "id":
		return FieldID
	case "queue":
		return FieldQueue
	case "topic":
		return FieldTopic
	case "body":
		return FieldBody
	case "headers":
		return FieldHeaders
	case "key":
		return FieldKey
	case "seq":
		return FieldSeq
	case "receipt":
		return FieldReceipt
	case "messages":
		return FieldMessages
	}
	return fieldByName[string(name)]
}

func lookupRetry(name []byte) Field {
	switch string(name) {
	case "min":
		return FieldRetryMin
	case "max":
		return FieldRetryMax
	case "factor":
		return FieldRetryFactor
	case "jitter":
		return FieldRetryJitter
	}
	return 0
}
