package broker

import "github.com/gmq/gmq/wire"

// What a confirm can stand for, in the order of the bits of pub.demands. Meets says by
// which of them a demand for one is met: by itself and by what is stronger.
var storedNames = [...]string{"memory", "written", "disk", "mysql", "memory_quorum", "quorum"}

var meets = map[string][]string{
	"memory":        {"memory", "written", "disk", "mysql", "memory_quorum", "quorum"},
	"written":       {"written", "disk", "mysql", "quorum"},
	"disk":          {"disk", "mysql", "quorum"},
	"mysql":         {"disk", "mysql", "quorum"},
	"memory_quorum": {"memory_quorum", "quorum"},
	"quorum":        {"quorum"},
}

// demand is the bit of what a publish asks for, 0 where it asks for nothing.
func demand(name []byte) uint8 {
	for i, n := range storedNames {
		if string(name) == n {
			return 1 << i
		}
	}
	return 0
}

// given has the bits of all demands that a storage meets whose confirms stand for stored.
func given(stored string) (bits uint8) {
	for i, n := range storedNames {
		for _, by := range meets[n] {
			if by == stored {
				bits |= 1 << i
			}
		}
	}
	return bits
}

// unmet is the error for a publish with demands of which its queue does not meet all; nil where it does.
func (st *store) unmet(demands uint8, name []byte) *wire.Error {
	missing := demands &^ st.gives
	if missing == 0 {
		return nil
	}
	for i, n := range storedNames {
		if missing&(1<<i) != 0 {
			return wire.Errorf(wire.CodeNotStored, "queue %q gives stored %s, and %s was demanded; nothing was stored", name, st.Stored, n)
		}
	}
	return nil
}
