package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func publishLine(n int) []byte {
	return []byte(`{"op":"publish","queue":"orders","id":17,"body":"` + strings.Repeat("x", n-2) + `"}`)
}

func batchLine(n int) []byte {
	return []byte(`{"op":"publish","queue":"orders","id":17,"messages":[` + strings.TrimSuffix(strings.Repeat(`{"key":"k\u0031","headers":{"a":"b","\u0063":"d"},"delay":"1m30s","body":{"a":1}},`, n), ",") + `]}`)
}

func ackLine(n int) []byte {
	var seqs, receipts []string
	for i := range n {
		seqs = append(seqs, fmt.Sprint(1000000+i))
		receipts = append(receipts, fmt.Sprintf(`"r%d.3f"`, i))
	}
	return []byte(`{"op":"ack","queue":"orders","id":17,"seq":[` + strings.Join(seqs, ",") + `],"receipt":[` + strings.Join(receipts, ",") + `]}`)
}

var someDelivery = &Delivery{Pushed: true, Sub: 1, Queue: "orders", Seq: 42, Attempt: 1, Receipt: []byte("1.2a"), Published: 1767323045123456789, Headers: []byte(`{"a":"b"}`), Key: []byte("customer-7"), Body: []byte(`"` + strings.Repeat("x", 98) + `"`)}

// The hot paths allocate nothing.
func TestAllocs(t *testing.T) {
	d, r, f := NewDecoder(1<<20), &Request{}, &Frame{}
	batch := batchLine(100)
	buf := make([]byte, 0, 64<<10)
	id := []byte("17")
	dead := &DeadInfo{Queue: "q", Reason: []byte("x")}
	full := []byte(fuzzLines[0])
	b64 := []byte(fuzzLines[1])
	reply := AppendPublished(nil, id, 42, "disk", false)
	pushed := AppendDelivery(nil, someDelivery)
	received := append(append([]byte(`{"ok":true,"messages":[`), pushed...), "]}"...)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	decode := func(line []byte) func() {
		return func() {
			if err := d.Decode(line, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, run := range map[string]func(){
		"publish": decode(publishLine(100)), "publish with all": decode(full), "base64": decode(b64), "batch": decode(batch), "ack": decode(ackLine(100)), "create": decode([]byte(fuzzLines[9])),
		"delivery": func() { AppendDelivery(buf, someDelivery) }, "published": func() { AppendPublished(buf, id, 42, "disk", true) },
		"dead": func() { AppendDeadHeaders(buf, []byte(`{"\u0061":"b"}`), dead) }, "duration": func() { AppendDuration(buf, 90*time.Minute) },
		"frame of a reply": func() { check(DecodeFrame(reply, f)) }, "frame of a delivery": func() { check(DecodeFrame(pushed, f)) }, "frame of a receive": func() { check(DecodeFrame(received, f)) },
	} {
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// One large batch does not stay in memory for good.
func TestKept(t *testing.T) {
	d, r := NewDecoder(0), &Request{}
	big := []byte(someBatch + `[` + strings.Repeat(`{"body":1},`, MaxBatch-1) + `{"body":1}]}`)
	for _, line := range [][]byte{publishLine(100), big, publishLine(100), publishLine(100)} {
		if err := d.Decode(line, r); err != nil {
			t.Fatal(err)
		}
	}
	if cap(r.Messages) > keepItems {
		t.Errorf("%d messages are kept", cap(r.Messages))
	}
	for _, line := range [][]byte{ackLine(2), ackLine(MaxSeqs), ackLine(2), ackLine(2)} {
		if err := d.Decode(line, r); err != nil {
			t.Fatal(err)
		}
	}
	if cap(r.Seqs) > keepSeqs || cap(r.Receipts) > keepItems {
		t.Errorf("%d seqs and %d receipts are kept", cap(r.Seqs), cap(r.Receipts))
	}
}

func benchDecode(b *testing.B, line []byte) {
	d, r := NewDecoder(16<<20), &Request{}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(line, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodePublish100(b *testing.B) { benchDecode(b, publishLine(100)) }
func BenchmarkDecodePublish1K(b *testing.B)  { benchDecode(b, publishLine(1024)) }
func BenchmarkDecodePublish64K(b *testing.B) { benchDecode(b, publishLine(64<<10)) }
func BenchmarkDecodeAck100(b *testing.B)     { benchDecode(b, ackLine(100)) }
func BenchmarkDecodePublishJSON1K(b *testing.B) {
	benchDecode(b, []byte(`{"op":"publish","queue":"orders","id":17,"body":[`+strings.TrimSuffix(strings.Repeat(`{"name":"Anna","age":41,"tags":["a","b"],"ok":true},`, 20), ",")+`]}`))
}

func BenchmarkDecodePublishUnicode1K(b *testing.B) {
	benchDecode(b, []byte(`{"op":"publish","queue":"orders","id":17,"body":"`+strings.Repeat("日本語é", 93)+`"}`))
}

// BenchmarkDecodeMany reads publishes and acks that each name another queue, in turn by 64.
func BenchmarkDecodeMany(b *testing.B) {
	var lines [][]byte
	for i := range 128 {
		line := fmt.Appendf(nil, `{"op":"publish","queue":"orders-%d","id":%d,"body":"%s"}`, i%64, i, strings.Repeat("x", 98))
		if i >= 64 {
			line = fmt.Appendf(nil, `{"op":"ack","queue":"orders-%d","seq":[%d],"receipt":["1.%d.1"]}`, i%64, i, i)
		}
		lines = append(lines, line)
	}
	d, r, n := NewDecoder(16<<20), &Request{}, 0
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(lines[n&127], r); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

func BenchmarkDecodeBatch100(b *testing.B) {
	benchDecode(b, []byte(someBatch+`[`+strings.TrimSuffix(strings.Repeat(`{"body":"`+strings.Repeat("x", 98)+`"},`, 100), ",")+`]}`))
}

func BenchmarkAppendDelivery(b *testing.B) {
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		AppendDelivery(buf, someDelivery)
	}
}

func BenchmarkAppendPublished(b *testing.B) {
	buf, id := make([]byte, 0, 1024), []byte("17")
	b.ReportAllocs()
	for b.Loop() {
		AppendPublished(buf, id, 123456, "disk", false)
	}
}

func BenchmarkAppendTime(b *testing.B) {
	buf := make([]byte, 0, 64)
	for b.Loop() {
		AppendTime(buf, 1767323045123456789)
	}
}

func BenchmarkDecodeFrameReply(b *testing.B) {
	line, f := AppendPublished(nil, []byte("17"), 123456, "disk", false), &Frame{}
	for b.Loop() {
		if err := DecodeFrame(line, f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeFrameDelivery(b *testing.B) {
	line, f := AppendDelivery(nil, someDelivery), &Frame{}
	for b.Loop() {
		if err := DecodeFrame(line, f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodePublish1M(b *testing.B) { benchDecode(b, publishLine(1<<20)) }
