package schema

import (
	"maps"
	"slices"
	"strings"

	"github.com/gmq/gmq/wire"
)

// An object is a JSON object of a schema.
type object = map[string]any

func ref(name string) object { return object{"$ref": "#/definitions/" + name} }

func described(o object, text string) object {
	o = maps.Clone(o)
	o["description"] = text
	return o
}

func integer(least, most int) object {
	return object{"type": "integer", "minimum": least, "maximum": most}
}

func text(least, most int) object {
	return object{"type": "string", "minLength": least, "maxLength": most}
}

func oneOf(names ...string) object { return object{"type": "string", "enum": names} }

func list(of object, least, most int) object {
	return object{"type": "array", "items": of, "minItems": least, "maxItems": most}
}

const (
	word     = `[A-Za-z0-9_-]+`
	name     = `[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}`
	grant    = `(\*|[A-Za-z0-9_-][A-Za-z0-9._-]*)(\.(\*|[A-Za-z0-9_-]+))*(\.>)?|>`
	duration = `^[+-]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`
	moment   = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$`
)

// spans is a duration; what is out of its range only the server can tell, so that is said in words.
func spans(least, most string) object {
	return object{"$ref": "#/definitions/duration", "description": "from " + least + " to " + most}
}

// simple are the types that have names.
func simple() object {
	return object{
		"id": object{
			"description": "given back with the reply exactly as it was sent; 256 bytes at most, quotes counted",
			"oneOf":       []any{text(0, 254), object{"type": "number"}},
		},
		"seq":      described(integer(0, wire.MaxInteger), "the number of a message in its queue"),
		"count":    integer(0, wire.MaxInteger),
		"queue":    object{"type": "string", "pattern": "^" + name + "$", "description": "the name of a queue"},
		"source":   object{"type": "string", "pattern": `^\.?` + name + "$", "maxLength": wire.MaxName, "description": "the name of a queue, also of an ephemeral one"},
		"topic":    object{"type": "string", "pattern": "^" + word + `(\.` + word + ")*$", "maxLength": wire.MaxName, "description": "a topic: words with dots between them"},
		"pattern":  object{"type": "string", "pattern": `^((\*|` + word + `)(\.(\*|` + word + `))*(\.>)?|>)$`, "maxLength": wire.MaxName, "description": "a topic, in which * is one word, and > as the last word one or more"},
		"user":     object{"type": "string", "pattern": "^[A-Za-z0-9._@:/+-]{1,255}$", "description": "the name of a user, or of a token"},
		"right":    object{"type": "string", "pattern": `^(publish|consume|peek|manage|admin|\*):.{1,255}$`, "description": "a verb and a pattern of names"},
		"duration": object{"type": "string", "pattern": duration, "maxLength": 128, "description": "numbers with units, such as 1h30m"},
		"time":     object{"type": "string", "pattern": moment, "maxLength": 128, "description": "RFC 3339"},
		"stored":   oneOf("memory", "written", "disk", "mysql", "memory_quorum", "quorum"),
		"state":    oneOf("ready", "delayed", "leased"),
		"headers": object{
			"type": "object", "propertyNames": text(1, wire.MaxHeaderName), "additionalProperties": object{"type": "string"},
			"description": "16 KiB at most as sent",
		},
	}
}

// fields are the fields of requests by name; special has those that mean something else for some operations.
func fields() object {
	instant := ref("time")
	return object{
		"quiet": object{"type": "boolean"}, "client": text(0, wire.MaxClient), "protocol": object{"type": "integer", "minimum": 0, "maximum": wire.MaxInteger},
		"user": ref("user"), "password": text(1, wire.MaxPassword), "token": text(1, wire.MaxToken),
		"mechanism": text(1, 64), "data": text(1, wire.MaxData), "name": ref("user"),
		"verb":  oneOf("publish", "consume", "peek", "manage", "admin"),
		"allow": list(ref("right"), 0, wire.MaxGrants), "deny": list(ref("right"), 0, wire.MaxGrants), "revoke": list(ref("right"), 0, wire.MaxGrants),
		"queue": ref("queue"), "to": ref("queue"), "topic": ref("pattern"), "create": object{"type": "boolean"},
		"body": true, "headers": ref("headers"), "encoding": object{"const": "base64"}, "key": text(1, wire.MaxKey),
		"priority": integer(0, wire.MaxPriority), "delay": spans("0s", "87600h"), "at": described(instant, "of the years 1970 to 2199"),
		"ttl": spans("above 0s", "87600h"), "dedup_id": text(1, wire.MaxDedupID), "stored": ref("stored"),
		"max": integer(1, wire.MaxInteger), "wait": spans("0s", "24h"), "lease": spans("1ms", "24h"), "ack": oneOf("manual", "auto"),
		"credit": integer(1, wire.MaxCredit), "sub": integer(0, wire.MaxInteger), "seq": ref("seq"),
		"receipt": text(1, wire.MaxReceipt), "reason": text(0, wire.MaxReason), "dead": object{"type": "boolean"}, "count": object{"type": "boolean"}, "drain": object{"type": "boolean"},
		"prefix": text(0, wire.MaxName), "after": text(0, wire.MaxName), "limit": integer(1, wire.MaxLimit), "state": ref("state"),
		"storage": oneOf("memory", "file", "mysql"), "max_messages": ref("count"), "max_bytes": ref("count"),
		"overflow": oneOf("reject", "drop_oldest", "dead_letter"), "max_deliveries": integer(0, wire.MaxMaxDeliveries),
		"retry": object{"type": "object", "additionalProperties": false, "properties": object{
			"min": spans("0s", "720h"), "max": spans("0s", "720h"),
			"factor": object{"type": "number", "minimum": wire.MinRetryFactor, "maximum": wire.MaxRetryFactor},
			"jitter": object{"type": "number", "minimum": 0, "maximum": wire.MaxRetryJitter},
		}},
		"dedup_window": spans("0s", "720h"), "dead_letter_expired": object{"type": "boolean"},
	}
}

func special(op wire.Op) object {
	named := object{"type": "string", "pattern": "^[A-Za-z0-9._-]{0,255}$"}
	several := object{
		"queue":   ref("source"),
		"seq":     object{"oneOf": []any{ref("seq"), list(ref("seq"), 1, wire.MaxSeqs)}},
		"receipt": object{"description": "in the shape of seq, and as many", "oneOf": []any{text(1, wire.MaxReceipt), list(text(1, wire.MaxReceipt), 1, wire.MaxSeqs)}},
	}
	switch op {
	case wire.OpPublish:
		return object{"topic": ref("topic")}
	case wire.OpReceive:
		return object{"max": integer(1, wire.MaxReceive)}
	case wire.OpAck, wire.OpNack, wire.OpExtend:
		return several
	case wire.OpQueueList:
		return object{"prefix": named, "after": named}
	case wire.OpQueuePeek:
		return object{"after": ref("seq")}
	case wire.OpQueueCreate, wire.OpQueueUpdate:
		return object{"ttl": spans("0s", "87600h")}
	case wire.OpAuthCheck:
		return object{"name": object{"type": "string", "pattern": "^(" + grant + ")$", "maxLength": wire.MaxName}}
	}
	return nil
}

// fieldsOf are the names of the fields that an operation may have, but for those inside retry.
func fieldsOf(f wire.Field) []string {
	var names []string
	for bit := wire.Field(1); bit != 0 && bit <= f; bit <<= 1 {
		if f&bit != 0 && !strings.Contains(wire.FieldName(bit), ".") {
			names = append(names, wire.FieldName(bit))
		}
	}
	return names
}

// request is the schema of the requests of an operation.
func request(op wire.Op) object {
	properties := object{"op": object{"const": op.String()}, "id": ref("id")}
	known, own := fields(), special(op)
	for _, name := range fieldsOf(wire.OpFields(op)) {
		switch schema, there := known[name]; {
		case name == "id":
		case own[name] != nil:
			properties[name] = own[name]
		case there:
			properties[name] = schema
		default:
			properties[name] = true // a field that nobody has described here; TestEveryFieldIsDescribed tells
		}
	}
	needs, one := wire.OpNeeds(op)
	schema := object{"type": "object", "properties": properties, "additionalProperties": false, "required": append([]string{"op"}, fieldsOf(needs)...)}
	if one != 0 {
		var choices []any
		for _, name := range fieldsOf(one) {
			choices = append(choices, object{"required": []string{name}})
		}
		schema["oneOf"] = choices
	}
	switch op {
	case wire.OpPublish:
		publish(schema)
	case wire.OpHello:
		hello(schema)
	}
	return schema
}

var base64Text = object{"type": "string", "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"}

// encoded says that with an encoding the body is text of it, and that a message is due at one time.
func encoded() []any {
	return []any{
		object{"if": object{"required": []string{"encoding"}}, "then": object{"properties": object{"body": base64Text}}},
		object{"not": object{"required": []string{"delay", "at"}}},
	}
}

// publish makes a publish either a message or a batch.
func publish(schema object) {
	properties := schema["properties"].(object)
	message := object{}
	var beside []any // what must not stand beside a batch
	for _, name := range []string{"body", "headers", "encoding", "key", "priority", "delay", "at", "ttl", "dedup_id", "stored"} {
		message[name] = properties[name]
		if name != "stored" {
			beside = append(beside, object{"required": []string{name}})
		}
	}
	properties["messages"] = list(object{
		"type": "object", "properties": message, "additionalProperties": false, "required": []string{"body"}, "allOf": encoded(),
	}, 1, wire.MaxBatch)
	schema["allOf"] = append(encoded(), object{
		"if":   object{"required": []string{"messages"}},
		"then": object{"not": object{"anyOf": beside}},
		"else": object{"required": []string{"body"}},
	})
}

// hello says which of the ways to log in exclude each other.
func hello(schema object) {
	schema["dependencies"] = object{
		"user": []string{"password"}, "password": []string{"user"}, "mechanism": []string{"data"},
		"token": object{"not": object{"anyOf": []any{object{"required": []string{"user"}}, object{"required": []string{"password"}}}}},
		"data": object{"not": object{"anyOf": []any{
			object{"required": []string{"user"}}, object{"required": []string{"password"}}, object{"required": []string{"token"}},
		}}},
	}
}

// requestNames are the operations, in order of their names.
func requestNames() []string {
	var names []string
	for _, op := range wire.Ops() {
		names = append(names, op.String())
	}
	slices.Sort(names)
	return names
}
