package wire

import (
	"bytes"
	"slices"
	"strings"
)

// A Verb is a kind of thing that a user may be allowed to do with what has a name, as one bit.
type Verb uint8

// The verbs.
const (
	VerbPublish Verb = 1 << iota
	VerbConsume
	VerbPeek
	VerbManage
	VerbAdmin
	verbEnd

	AnyVerb = verbEnd - 1
)

var verbNames = []string{"publish", "consume", "peek", "manage", "admin"}

// String names the verbs, those of several with "or" between them.
func (v Verb) String() string {
	var names []string
	for i, name := range verbNames {
		if v&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " or ")
}

// ParseVerb gives the verb of that name; "*" is all of them, and 0 none.
func ParseVerb(name string) Verb {
	if name == "*" {
		return AnyVerb
	}
	if i := slices.Index(verbNames, name); i >= 0 {
		return 1 << i
	}
	return 0
}

// A Need is what an operation needs to be allowed for the name in one of its fields: one of the verbs at least. Without
// a verb the name is free to be used. Without a field it is everything there is.
type Need struct {
	Field Field
	Verbs Verb
}

// Who may ask for an operation at all.
type who uint8

const (
	nobody  who = iota // an operation that somebody forgot to put into the table below
	anybody            // also who has not said who he is
	users              // whoever has
)

// NamingFields are those in which a queue or a topic can be named.
const NamingFields = FieldQueue | FieldTopic | FieldTo

// access says what each operation needs. Whatever is not in it is refused to everybody.
var access = [opCount]struct {
	who   who
	needs []Need
}{
	OpHello:           {anybody, nil},
	OpPing:            {anybody, nil},
	OpPublish:         {users, []Need{{FieldQueue, VerbPublish}, {FieldTopic, VerbPublish}}},
	OpReceive:         {users, []Need{{FieldQueue, VerbConsume}}},
	OpSubscribe:       {users, []Need{{FieldQueue, VerbConsume}, {FieldTopic, VerbConsume}}},
	OpUnsubscribe:     {users, nil},
	OpAck:             {users, []Need{{FieldQueue, VerbConsume}}},
	OpNack:            {users, []Need{{FieldQueue, VerbConsume}}},
	OpExtend:          {users, []Need{{FieldQueue, VerbConsume}}},
	OpQueueCreate:     {users, []Need{{FieldQueue, VerbManage}}},
	OpQueueUpdate:     {users, []Need{{FieldQueue, VerbManage}}},
	OpQueueDelete:     {users, []Need{{FieldQueue, VerbManage}}},
	OpQueuePurge:      {users, []Need{{FieldQueue, VerbManage}}},
	OpQueuePause:      {users, []Need{{FieldQueue, VerbManage}}},
	OpQueueResume:     {users, []Need{{FieldQueue, VerbManage}}},
	OpQueueList:       {users, nil}, // it shows what the user may do anything with
	OpQueueInfo:       {users, []Need{{FieldQueue, VerbConsume | VerbPeek | VerbManage}}},
	OpQueuePeek:       {users, []Need{{FieldQueue, VerbPeek}}},
	OpQueueExplain:    {users, []Need{{FieldQueue, VerbPeek}}},
	OpQueueCancel:     {users, []Need{{FieldQueue, VerbManage}}},
	OpQueueReschedule: {users, []Need{{FieldQueue, VerbManage}}},
	OpQueueRedrive:    {users, []Need{{FieldQueue, VerbManage}, {FieldTo, VerbPublish}}}, // without to: where the messages died
	OpQueueBind:       {users, []Need{{FieldQueue, VerbManage}, {FieldTopic, VerbConsume}}},
	OpQueueUnbind:     {users, []Need{{FieldQueue, VerbManage}, {FieldTopic, 0}}},
	OpServerInfo:      {users, nil}, // its totals are of what queue.list shows
	OpUserAdd:         {users, []Need{{0, VerbAdmin}}},
	OpUserRemove:      {users, []Need{{0, VerbAdmin}}},
	OpUserList:        {users, []Need{{0, VerbAdmin}}},
	OpUserPassword:    {users, []Need{{0, VerbAdmin}}},
	OpUserGrant:       {users, []Need{{0, VerbAdmin}}},
	OpTokenAdd:        {users, []Need{{0, VerbAdmin}}},
	OpTokenRemove:     {users, []Need{{0, VerbAdmin}}},
	OpTokenList:       {users, []Need{{0, VerbAdmin}}},
	OpAuthCheck:       {users, []Need{{0, VerbAdmin}}},
	OpClusterToken:    {users, []Need{{0, VerbAdmin}}},
	OpClusterStatus:   {users, []Need{{0, VerbAdmin}}},
	OpClusterRemove:   {users, []Need{{0, VerbAdmin}}},
	OpClusterTransfer: {users, []Need{{0, VerbAdmin}}},
	OpClusterLeaders:  {users, []Need{{FieldQueue, 0}}}, // it says nothing of the queue, not even whether it is there
}

// Needs gives what an operation needs, and whether it may be asked for by somebody who has not said who he is. It is
// false in known where the table does not have the operation: then it is for nobody.
func Needs(op Op) (needs []Need, open, known bool) {
	if op >= opCount {
		return nil, false, false
	}
	a := &access[op]
	return a.needs, a.who == anybody, a.who != nobody
}

// ValidGrantPattern reports whether s can stand in a grant: a name of a queue or a topic, in which * stands for one word
// and > as the last word for the rest.
func ValidGrantPattern(s []byte) bool {
	if len(s) == 0 || len(s) > MaxName || s[0] == '.' {
		return false
	}
	for more := true; more; {
		var word []byte
		word, s, more = bytes.Cut(s, []byte("."))
		if wild := len(word) == 1 && (word[0] == '*' || word[0] == '>' && !more); !wild && len(word) > 0 && !all(word, inWord) {
			return false
		}
	}
	return true
}

// ValidUserName reports whether s can name a user or a token: the names in certificates are such, too.
func ValidUserName(s []byte) bool {
	if len(s) == 0 || len(s) > MaxUser {
		return false
	}
	for _, c := range s {
		if class[c]&inName == 0 && bytes.IndexByte([]byte("@:/+"), c) < 0 {
			return false
		}
	}
	return true
}

// Header gives the value of a header, unescaped into buf where that is needed. headers are as a Message has them. ok is false where there
// is no such header.
func Header(headers []byte, name string, buf []byte) (value []byte, ok bool) {
	if len(headers) == 0 {
		return nil, false
	}
	unescaped := func(s []byte, seen uint8) []byte {
		if seen&strEscaped == 0 {
			return s
		}
		start := len(buf)
		buf, _ = unescape(buf, s)
		return buf[start:]
	}
	for i, more := open(headers, 0, '}'); more; {
		end, at, seen := scanName(headers, i)
		if at < 0 || at >= len(headers) || headers[at] != '"' {
			return nil, false
		}
		is := string(unescaped(headers[i+1:end-1], seen)) == name
		if end, seen = scanString(headers, at); end < 0 {
			return nil, false
		}
		if is {
			return unescaped(headers[at+1:end-1], seen), true
		}
		i, more = next(headers, end, '}')
	}
	return nil, false
}
