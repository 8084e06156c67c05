package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/gmq/gmq/wire"
	"go.yaml.in/yaml/v3"
)

// The documents, below the root of the repository.
const (
	SchemaFile = "docs/schema/gmq.schema.json"
	AsyncFile  = "docs/schema/asyncapi.yaml"
)

// Schema is the JSON Schema of every frame. requests are what clients send, lines what the server says.
func Schema() object {
	definitions := simple()
	maps.Copy(definitions, things())
	var requests, lines []any
	for _, op := range wire.Ops() {
		definitions["request."+op.String()] = request(op)
		definitions["reply."+op.String()] = reply(op)
		requests = append(requests, ref("request."+op.String()))
		lines = append(lines, ref("reply."+op.String()))
	}
	definitions["request"] = object{"description": "a line that a client sends", "oneOf": requests}
	definitions["line"] = object{
		"description": "a line that the server sends; which reply it is says the request of the same id",
		"anyOf":       append(lines, ref("error"), ref("message"), ref("unsubscribed"), ref("closing")),
	}
	return object{
		"$schema": "http://json-schema.org/draft-07/schema#", "$id": "urn:gmq:protocol:1", "title": "GMQ protocol, version 1",
		"description": "Frames are lines: one JSON object each. docs/protocol.md says what they mean, and what a schema cannot say: limits in bytes, ranges of durations, names that stand twice.",
		"definitions": definitions, "oneOf": []any{ref("request"), ref("line")},
	}
}

// Async is the AsyncAPI document, which describes the server: what it receives and what it sends.
func Async() object {
	frame := func(name string) object { return object{"$ref": "./gmq.schema.json#/definitions/" + name} }
	messages, channel, operations := object{}, object{}, object{}
	add := func(name, title string) object {
		messages[name] = object{"name": name, "title": title, "contentType": "application/json", "payload": frame(name)}
		channel[name] = object{"$ref": "#/components/messages/" + name}
		return object{"$ref": "#/channels/connection/messages/" + name}
	}
	failed := add("error", "A request has failed")
	for _, op := range wire.Ops() {
		operations[op.String()] = object{
			"action": "receive", "channel": object{"$ref": "#/channels/connection"},
			"messages": []any{add("request."+op.String(), op.String())},
			"reply":    object{"channel": object{"$ref": "#/channels/connection"}, "messages": []any{add("reply."+op.String(), "The reply to "+op.String()), failed}},
		}
	}
	operations["push"] = object{
		"action": "send", "channel": object{"$ref": "#/channels/connection"}, "summary": "What the server says unasked",
		"messages": []any{add("message", "A delivery"), add("unsubscribed", "The end of a subscription"), add("closing", "The end of the connection")},
	}
	return object{
		"asyncapi": "3.0.0",
		"info": object{
			"title": "GMQ", "version": "1", "license": object{"name": "Apache-2.0"},
			"description": "A message queue: one line of JSON over TCP each way. Requests may be sent without waiting; replies bear the id of their request.",
		},
		"defaultContentType": "application/json",
		"servers":            object{"local": object{"host": "localhost:4567", "protocol": "tcp", "description": "plain, or TLS on the same port"}},
		"channels": object{"connection": object{
			"title": "A connection", "description": "Lines, each one JSON object and a newline, in both directions.", "messages": channel,
		}},
		"operations": operations,
		"components": object{"messages": messages},
	}
}

// Documents are the bytes of the files, by their names.
func Documents() (map[string][]byte, error) {
	var schema bytes.Buffer
	e := json.NewEncoder(&schema)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(Schema()); err != nil {
		return nil, fmt.Errorf("the schema: %w", err)
	}
	var async bytes.Buffer
	y := yaml.NewEncoder(&async)
	y.SetIndent(2)
	if err := y.Encode(Async()); err != nil {
		return nil, fmt.Errorf("the AsyncAPI document: %w", err)
	}
	return map[string][]byte{SchemaFile: schema.Bytes(), AsyncFile: async.Bytes()}, nil
}
