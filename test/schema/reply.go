package schema

import (
	"maps"
	"slices"

	"github.com/gmq/gmq/wire"
)

// fixed is an object of which all fields are there, and maybe others of optional.
func fixed(must, optional object) object {
	all := maps.Clone(must)
	maps.Copy(all, optional)
	o := object{"type": "object", "properties": all}
	if names := slices.Sorted(maps.Keys(must)); len(names) > 0 {
		o["required"] = names
	}
	return o
}

func array(of object) object { return object{"type": "array", "items": of} }

var (
	boolean = object{"type": "boolean"}
	words   = object{"type": "string"}
)

// things are the objects in replies.
func things() object {
	count, queue, moment := ref("count"), ref("source"), ref("time")
	about := object{
		"queue": queue, "seq": ref("seq"), "attempt": count, "published": moment, "body": true,
	}
	maybe := object{
		"redelivered": object{"const": true}, "headers": ref("headers"), "key": words, "topic": ref("topic"),
		"dropped": count, "encoding": object{"const": "base64"},
	}
	delivery := maps.Clone(about)
	delivery["receipt"] = text(1, wire.MaxReceipt)
	pushed := maps.Clone(delivery)
	pushed["op"], pushed["sub"] = object{"const": "message"}, count
	peeked := maps.Clone(about)
	peeked["state"] = ref("state")
	maybeUntil := maps.Clone(maybe)
	maybeUntil["until"] = moment
	counts := object{}
	for _, name := range []string{"published", "ready", "delayed", "leased", "acked", "expired", "dead", "dropped", "cancelled", "purged", "redriven"} {
		counts[name] = count
	}
	settings := object{}
	for _, name := range []string{"storage", "max_messages", "max_bytes", "overflow", "lease", "max_deliveries", "ttl", "dedup_window", "dead_letter_expired"} {
		settings[name] = fields()[name]
	}
	settings["retry"] = fixed(fields()["retry"].(object)["properties"].(object), nil)
	var codes []string
	for _, c := range codesOfTheProtocol {
		codes = append(codes, string(c))
	}
	return object{
		"delivery": fixed(delivery, maybe),
		"message":  described(fixed(pushed, maybe), "a delivery of a subscription"),
		"peeked":   fixed(peeked, maybeUntil),
		"counts":   fixed(counts, nil),
		"settings": fixed(settings, nil),
		"unsubscribed": described(fixed(object{"op": object{"const": "unsubscribed"}, "sub": count, "reason": words}, nil),
			"the subscription is over"),
		"closing": described(fixed(object{"op": object{"const": "closing"}, "reason": words}, nil), "the connection is about to end"),
		"error": described(fixed(object{
			"ok":    object{"const": false},
			"error": fixed(object{"code": ref("code"), "message": words, "retryable": boolean}, object{"seqs": array(ref("seq"))}),
		}, object{"id": ref("id")}), "the reply to a request that failed"),
		"code": oneOf(codes...),
	}
}

var codesOfTheProtocol = []wire.Code{
	wire.CodeBadJSON, wire.CodeBadRequest, wire.CodeUnknownOp, wire.CodeLineTooLong, wire.CodeUnauthenticated, wire.CodeForbidden,
	wire.CodeNotFound, wire.CodeExists, wire.CodeTooManyQueues, wire.CodeTooManyConnections, wire.CodeMessageTooLarge, wire.CodeQueueFull,
	wire.CodeLeaseLost, wire.CodePaused, wire.CodeNotStored, wire.CodeNoQuorum, wire.CodeUnknownOutcome, wire.CodeDiskFull, wire.CodeOverloaded,
	wire.CodeRateLimited, wire.CodeShuttingDown, wire.CodeInternal,
}

// A success is what a reply holds besides id and ok.
type success struct{ must, optional object }

// replies are the successes by operation; several where the reply has several shapes. An operation that is
// not here has replies of which nothing is said.
func replies() map[wire.Op][]success {
	count, moment := ref("count"), ref("time")
	done := []success{{}}
	server := object{"server": words, "version": words, "node": words, "protocol": count}
	greeting := maps.Clone(server)
	greeting["max_message_bytes"], greeting["storages"] = count, array(words)
	info := maps.Clone(server)
	info["limits"] = fixed(object{"max_queues": count, "max_message_bytes": count, "max_in_flight": count}, nil)
	info["totals"] = fixed(object{"queues": count, "ready": count, "leased": count, "delayed": count}, nil)
	info["storages"] = array(words)
	info["usage"] = object{"type": "object", "additionalProperties": fixed(object{"bytes": count, "message_bytes": count}, nil)}
	rights := array(ref("right"))
	return map[wire.Op][]success{
		wire.OpHello: {{greeting, object{"user": words, "token": words, "data": words, "nodes": array(words)}}, {object{"data": words}, nil}},
		wire.OpPing:  done,
		wire.OpPublish: {
			{object{"seq": ref("seq"), "stored": ref("stored")}, object{"duplicate": object{"const": true}}},
			{object{"seqs": array(ref("seq")), "stored": ref("stored")}, object{"duplicates": array(ref("seq"))}},
			{object{"queues": count}, object{"stored": ref("stored"), "duplicate": object{"const": true}}},
		},
		wire.OpReceive:   {{object{"messages": array(ref("delivery"))}, nil}},
		wire.OpSubscribe: {{object{"sub": count}, nil}}, wire.OpUnsubscribe: done,
		wire.OpAck: {{object{"settled": count}, nil}}, wire.OpNack: {{object{"settled": count}, nil}},
		wire.OpExtend:      {{object{"until": moment}, nil}},
		wire.OpQueueCreate: {{object{"settings": ref("settings")}, nil}},
		wire.OpQueueUpdate: done, wire.OpQueueDelete: done, wire.OpQueuePause: done, wire.OpQueueResume: done,
		wire.OpQueueBind: done, wire.OpQueueUnbind: done, wire.OpQueueCancel: done, wire.OpQueueReschedule: done,
		wire.OpQueuePurge: {{object{"purged": count}, nil}}, wire.OpQueueRedrive: {{object{"moved": count}, nil}},
		wire.OpQueueList: {{object{"queues": array(fixed(object{"queue": ref("queue"), "storage": words, "ready": count, "leased": count, "delayed": count}, nil))}, nil}},
		wire.OpQueueInfo: {{object{
			"queue": ref("queue"), "settings": ref("settings"), "counts": ref("counts"), "oldest_age": ref("duration"),
			"bytes": count, "consumers": count, "paused": boolean,
		}, object{"bindings": array(ref("pattern"))}}},
		wire.OpQueuePeek: {{object{"messages": array(ref("peeked"))}, nil}},
		wire.OpQueueExplain: {{object{
			"state": oneOf("ready", "delayed", "leased", "settled"), "because": words, "attempts": count,
			"history": array(fixed(object{"at": moment, "event": words, "attempts": count}, object{"reason": words})),
		}, object{"until": moment, "lease": fixed(object{"consumer": words}, object{"until": moment})}}},
		wire.OpServerInfo: {{info, nil}},
		wire.OpUserAdd:    done, wire.OpUserRemove: done, wire.OpUserPassword: done, wire.OpTokenRemove: done,
		wire.OpUserList: {{object{"users": array(fixed(object{
			"user": ref("user"), "password": boolean, "created": moment, "allow": rights, "deny": rights, "tokens": count,
		}, nil))}, nil}},
		wire.OpUserGrant: {{object{"allow": rights, "deny": rights}, nil}},
		wire.OpTokenAdd:  {{object{"token": words}, object{"expires": moment}}},
		wire.OpTokenList: {{object{"tokens": array(fixed(object{"name": ref("user"), "created": moment},
			object{"user": ref("user"), "allow": rights, "deny": rights, "expires": moment}))}, nil}},
		wire.OpAuthCheck:    {{object{"allowed": boolean, "because": words}, nil}},
		wire.OpClusterToken: {{object{"token": words, "expires": moment}, nil}}, wire.OpClusterStatus: {clusterStatus()},
		wire.OpClusterRemove: {{object{"name": words}, nil}}, wire.OpClusterTransfer: {{object{"name": words}, nil}},
		wire.OpClusterLeaders: {{object{"leaders": array(words)}, object{"group": count}}},
	}
}

func clusterStatus() success {
	count := ref("count")
	return success{object{
		"node": words, "replicas": count,
		"nodes": array(fixed(object{
			"name": words, "id": words, "state": oneOf("alone", "joining", "member", "leaving"), "reachable": boolean, "leads": count, "behind": count,
		}, object{"address": words, "client": words, "version": words})),
		"groups": array(fixed(object{"group": count, "term": count, "members": array(words)}, object{"leader": words, "learners": array(words)})),
	}, object{"mysql": words}}
}

// reply is the schema of an operation's replies of success. Fields that it does not name may be there:
// clients pass over them.
func reply(op wire.Op) object {
	var shapes []any
	for _, s := range replies()[op] {
		must := object{"ok": object{"const": true}}
		maps.Copy(must, s.must)
		optional := object{"id": ref("id")}
		maps.Copy(optional, s.optional)
		shapes = append(shapes, fixed(must, optional))
	}
	switch len(shapes) {
	case 0:
		return fixed(object{"ok": object{"const": true}}, object{"id": ref("id")})
	case 1:
		return shapes[0].(object)
	}
	return object{"anyOf": shapes}
}
