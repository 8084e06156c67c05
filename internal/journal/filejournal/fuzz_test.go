package filejournal

import (
	"testing"
)

func FuzzSnapshot(f *testing.F) {
	for _, data := range []string{"", "state", "\xff\xfe longer than the header of a snapshot file is"} {
		s := &snapshot{id: 7, shard: 3, pos: 1<<32 | 4096, data: []byte(data)}
		head, tail := s.encode()
		f.Add(append(append(head, s.data...), tail...))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := decodeSnapshot(file)
		if err != nil {
			return
		}
		head, tail := s.encode()
		if again := string(head) + string(s.data) + string(tail); again != string(file) {
			t.Errorf("%q is read as %+v, which is written as %q", file, s, again)
		}
	})
}

func FuzzSnapshotName(f *testing.F) {
	f.Add("003-0000000012-0000004096.snap")
	f.Fuzz(func(t *testing.T, name string) {
		if shard, pos, ok := parseSnapName(name); ok && snapName(shard, pos) != name {
			t.Errorf("%q", name)
		}
	})
}
