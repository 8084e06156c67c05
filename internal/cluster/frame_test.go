package cluster

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/gmq/gmq/internal/journal"
	"go.etcd.io/raft/v3/raftpb"
)

func frameSamples() []frame {
	conf := marshalConf(&raftpb.ConfState{Voters: []uint64{1, 2, 1 << 62}})
	return []frame{
		{kind: frameAskState, group: 3, offset: 1 << 40},
		{kind: frameAskRecords, group: 1, image: 77, serial: 4, refs: []journal.Ref{5, 9, 1 << 40, 1<<63 - 1}},
		{kind: frameDone, image: 77},
		{kind: frameLater, group: 15},
		{kind: frameNone, image: 1},
		{kind: frameState, group: 2, image: 1<<63 - 1, index: 70000, term: 9, size: 1 << 20, sum: 0xffffffff, offset: 9, conf: conf, data: []byte("a part")},
		{kind: frameRecords, image: 5, serial: 8, records: [][]byte{[]byte("one"), nil, {}, []byte("four")}},
	}
}

func TestFramesAreVerbatim(t *testing.T) {
	for _, want := range frameSamples() {
		got, err := parseFrame(want.encode())
		if want.kind == frameRecords && err == nil { // nothing and no record are two things
			for i, r := range got.records {
				if (r == nil) != (want.records[i] == nil) || !bytes.Equal(r, want.records[i]) {
					t.Errorf("record %d: %q, want %q", i, r, want.records[i])
				}
			}
			got.records = want.records
		}
		got.whole = nil
		for _, b := range []*[]byte{&got.conf, &got.data} {
			if len(*b) == 0 {
				*b = nil
			}
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v, %v", got, want, err)
		}
	}
}

// A changed bit, and an end that is missing, are found.
func TestFramesAreChecked(t *testing.T) {
	for _, f := range frameSamples() {
		whole := f.encode()
		for i := range 8 * len(whole) {
			b := bytes.Clone(whole)
			b[i/8] ^= 1 << (i % 8)
			if _, err := parseFrame(b); err == nil {
				t.Errorf("kind %d: bit %d of byte %d", f.kind, i%8, i/8)
			}
		}
		for i := range whole {
			if _, err := parseFrame(whole[:i]); err == nil {
				t.Errorf("kind %d: %d of %d bytes", f.kind, i, len(whole))
			}
		}
	}
}

// Whatever comes, with whatever checksum: no panic, and what is read is what would be written.
func FuzzFrame(f *testing.F) {
	for _, s := range frameSamples() {
		f.Add(s.encode()[frameHeader:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseFrame(sealFrame(append(make([]byte, frameHeader), body...)))
		if err != nil {
			return
		}
		if len(got.refs) > journal.FetchRefs || len(got.records) > journal.FetchRefs || uint64(len(got.data)) > got.size {
			t.Errorf("%d refs, %d records, %d bytes of %d", len(got.refs), len(got.records), len(got.data), got.size)
		}
		for i, ref := range got.refs[min(1, len(got.refs)):] {
			if ref <= got.refs[i] {
				t.Errorf("refs out of order: %v", got.refs)
			}
		}
		again, err := parseFrame(got.encode())
		if err != nil || again.serial != got.serial || again.index != got.index || len(again.records) != len(got.records) || !bytes.Equal(again.data, got.data) || !bytes.Equal(again.conf, got.conf) {
			t.Errorf("%+v, then %+v, %v", got, again, err)
		}
		_, _ = member(got.conf, 1)
	})
}
