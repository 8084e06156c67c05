package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gmq/gmq/internal/vfs"
)

// One changed bit is found, wherever it is; two never look like one.
func TestMend(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{1, 2, 16, 44, 300} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		sum := crc32.Checksum(data, castagnoli)
		flip := func(b []byte, s uint32, bit int) ([]byte, uint32) {
			b = bytes.Clone(b)
			if bit < 8*size {
				b[bit/8] ^= 1 << (bit % 8)
				return b, s
			}
			return b, s ^ 1<<(bit-8*size)
		}
		for bit := range 8*size + 32 {
			b, s := flip(data, sum, bit)
			if got, ok := Mend(b, s); !ok || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes, bit %d: %v", size, bit, ok)
			}
		}
		for range 3000 {
			b, s := data, sum
			bits := rnd.Perm(8*size + 32)[:2+rnd.IntN(2)]
			for _, bit := range bits {
				b, s = flip(b, s, bit)
			}
			if got, ok := Mend(b, s); ok && len(bits) == 2 {
				t.Fatalf("%d bytes, bits %v: %x is mended as %x", size, bits, b, got)
			}
		}
	}
	if _, ok := Mend([]byte("whole"), crc32.Checksum([]byte("whole"), castagnoli)); ok {
		t.Error("what is whole is mended")
	}
	if _, ok := Mend(make([]byte, MaxMend+1), 0); ok {
		t.Error("too much was looked at")
	}
}

// A record that lies elsewhere than it was written is not one whose place has changed by a bit.
func TestMendRecordElsewhere(t *testing.T) {
	var f Framer
	pos := MakePos(1, 5000)
	rec := binary.LittleEndian.AppendUint32(nil, 7)
	rec = append(append(rec, make([]byte, RecordBytes-4)...), "payload"...)
	must(t, f.Stamp(rec, pos, 3))
	for bit := range 64 {
		if _, _, _, ok := mendRecord(rec, pos^1<<bit); ok {
			t.Errorf("bit %d of the place", bit)
		}
	}
	for i := range rec {
		if i < 4 {
			continue // its length is known
		}
		for bit := range 8 {
			b := bytes.Clone(rec)
			b[i] ^= 1 << bit
			if payload, shard, _, ok := mendRecord(b, pos); !ok || string(payload) != "payload" || shard != 3 {
				t.Errorf("byte %d, bit %d: %v %q %d", i, bit, ok, payload, shard)
			}
		}
	}
}

// salvaged is what Salvage says of a writer's segment, a piece a word.
func (w *writer) salvaged(last bool) (string, Salvaged) {
	var words []string
	out, err := Salvage(w.dir, 1, last, 0, func(p Piece) error {
		word := []string{"", "mended:", "damaged:", "gap:"}[p.State]
		if p.State == Gap || p.State == Damaged {
			word += fmt.Sprintf("%d-%d", p.From.Offset(), p.To.Offset())
		} else {
			word += fmt.Sprintf("%d%s", p.Shard, p.Payload)
		}
		words = append(words, word)
		return nil
	})
	must(w.t, err)
	return strings.Join(words, " "), out
}

func (w *writer) put(at int64, b []byte) {
	_, err := w.f.WriteAt(b, at)
	must(w.t, err)
}

func TestSalvage(t *testing.T) {
	garbage := bytes.Repeat([]byte{0xa5}, 64)
	// Three frames: at 4096, 4176 and 4248.
	for _, test := range []struct {
		what   string
		damage func(w *writer)
		want   string
		end    int64
		torn   bool
	}{
		{"nothing", func(*writer) {}, "0one 1two 0three 0four", 4312, false},
		{"a body", func(w *writer) { w.put(4096+48+12, garbage[:3]) }, "damaged:4144-4159 1two 0three 0four", 4312, false},
		{"a bit of a body", func(w *writer) { w.flip(4096 + 48 + 13) }, "mended:0one 1two 0three 0four", 4312, false},
		{"a bit of a shard", func(w *writer) { w.flip(4096 + 48 + 15 + 8) }, "0one mended:1two 0three 0four", 4312, false},
		{"a length", func(w *writer) { w.put(4096+48, garbage[:4]) }, "mended:0one 1two 0three 0four", 4312, false},
		{"a record's header", func(w *writer) { w.put(4096+48, garbage[:12]) }, "gap:4144-4159 1two 0three 0four", 4312, false},
		{"a body and its checksum", func(w *writer) { w.put(4096+48+4, garbage[:11]) }, "gap:4144-4159 1two 0three 0four", 4312, false},
		{"a frame's header", func(w *writer) { w.put(4096, garbage[:48]) }, "0one 1two 0three 0four", 4312, false},
		{"a frame's header and a body", func(w *writer) { w.put(4096, garbage[:61]) }, "gap:4096-4144 gap:4144-4159 1two gap:4174-4176 0three 0four", 4312, false},
		{"a bit of a frame's header", func(w *writer) { w.flip(4096 + 20) }, "0one 1two 0three 0four", 4312, false},
		{"padding", func(w *writer) { w.put(4175, garbage[:1]) }, "0one 1two 0three 0four", 4312, false},
		{"the last frame, which nothing says was synced", func(w *writer) { w.put(4248+48+12, garbage[:2]) }, "0one 1two 0three", 4248, true},
		{"a bit of the last frame", func(w *writer) { w.flip(4248 + 48 + 12) }, "0one 1two 0three mended:0four", 4312, false},
		{"a frame of another write", func(w *writer) {
			other := frame(&w.fr, Records, MakePos(1, 4096), MakePos(1, 4096), "uno", "dos")
			w.put(4096+48, other[48:])
		}, "gap:4096-4176 0three 0four", 4312, false},
		{"the header page", func(w *writer) { w.put(0, garbage) }, "0one 1two 0three 0four", 4312, false},
	} {
		w := newWriter(t)
		w.write(Records, 4096, "one", "two")
		w.write(Records, 4176, "three")
		w.write(Records, 4248, "four")
		test.damage(w)
		got, out := w.salvaged(true)
		if got != test.want || out.End != test.end || (out.Torn > 0) != test.torn || (len(out.Damage) == 0) != (test.what == "nothing" || test.torn) {
			t.Errorf("%s:\n got %s\nwant %s\n%+v", test.what, got, test.want, out)
		}
	}
}

// However a segment is damaged, its end is reached, the pieces are in order, and a whole one is one that was written.
func FuzzSalvage(f *testing.F) {
	f.Add(uint16(0), []byte{0}, true, uint16(0))
	f.Add(uint16(4096), []byte("garbage"), false, uint16(0))
	f.Add(uint16(4200), bytes.Repeat([]byte{0xa5}, 100), true, uint16(4300))
	f.Add(uint16(4144), []byte{9, 0, 0, 0}, true, uint16(0))
	written := []string{"0one", "1two", "0three", "0", "0four", "1five"}
	f.Fuzz(func(t *testing.T, at uint16, with []byte, last bool, size uint16) {
		w := newWriter(t)
		w.write(Records, 4096, "one", "two")
		w.write(Records, 4176, "three")
		w.write(Records, 4248, "")
		w.write(Records, 4312, "four", "five")
		w.write(Close, 4392)
		w.put(int64(at), with[:min(len(with), testSize-int(at))])
		if size > 0 {
			must(t, w.f.Truncate(int64(size)))
		}
		before := Pos(0)
		out, err := Salvage(w.dir, 1, last, 0, func(p Piece) error {
			if p.From < before || p.To < p.From {
				t.Errorf("%+v behind %d", p, before)
			}
			before = p.From
			if one := fmt.Sprintf("%d%s", p.Shard, p.Payload); p.State <= Mended && !slices.Contains(written, one) {
				t.Errorf("%q was never written", one)
			}
			return nil
		})
		must(t, err)
		if _, err := w.dir.FS.(*vfs.Mem).Stat(w.dir.Name(1)); err != nil || out.End < 0 {
			t.Errorf("%+v %v", out, err)
		}
	})
}
