package queue

import (
	"encoding/binary"
	"maps"
	"slices"
)

// Limits of documents. They are part of the format: Apply refuses what goes beyond.
const (
	MaxDocumentName = 1 << 10
	MaxDocument     = 64 << 10 // bytes of one
	MaxDocuments    = 100_000  // of them
	MaxDocumentsSum = 32 << 20 // bytes of all, names included
	documentCost    = 64       // what one takes beside its name and bytes, about
)

// documents are what others keep beside the queues, by name; what is in them is nobody's business here. The bytes of
// one are never changed.
type documents struct {
	by  map[string][]byte
	sum int
}

// AppendDocument appends that the document of that name has these bytes from now on; with none it is no more.
//
//	head | name | bytes to the end
func AppendDocument(dst []byte, at int64, name string, data []byte) []byte {
	return append(appendString(appendHead(dst, kindDocument, 0, 0, at), name), data...)
}

// Document gives the document of that name, nil where there is none. It must not be changed.
func (st *State) Document(name string) []byte { return st.docs.by[name] }

// DocumentNames are the names of all documents, in order.
func (st *State) DocumentNames() []string { return slices.Sorted(maps.Keys(st.docs.by)) }

// put carries out a document's record. Outcome.N is 1 where it changed anything.
func (d *documents) put(r *reader) (out Outcome) {
	name := r.string()
	data := slices.Clone(r.b)
	if r.err != nil {
		return out
	}
	old, there := d.by[name]
	size := func(n int) int { return len(name) + n + documentCost }
	sum := d.sum
	if there {
		sum -= size(len(old))
	}
	if len(data) == 0 {
		if there {
			delete(d.by, name)
			d.sum, out.N = sum, 1
		}
		return out
	}
	sum += size(len(data))
	if name == "" || len(name) > MaxDocumentName || len(data) > MaxDocument || sum > MaxDocumentsSum || !there && len(d.by) >= MaxDocuments {
		out.Refusal = TooManyDocuments
		return out
	}
	if d.by == nil {
		d.by = map[string][]byte{}
	}
	d.by[name], d.sum, out.N = data, sum, 1
	return out
}

// appendAll appends how many there are, and all of them in order of their names.
func (d *documents) appendAll(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(d.by)))
	for _, name := range slices.Sorted(maps.Keys(d.by)) {
		dst = appendString(appendString(dst, name), string(d.by[name]))
	}
	return dst
}

func (d *documents) load(r *reader) {
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		name, data := r.string(), r.string()
		if r.err != nil {
			return
		}
		if _, twice := d.by[name]; twice || data == "" {
			r.fail(errSnapshot)
			return
		}
		if out := d.put(&reader{b: append(appendString(nil, name), data...)}); out.Refusal != Done {
			r.fail(errSnapshot)
		}
	}
}
