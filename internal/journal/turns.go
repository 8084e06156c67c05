package journal

// InTurn is a journal over one storage that several nodes reach, and that one of them has at a time: who leads. No node has what another has kept
// before it gets the storage: then its state is made anew.
type InTurn interface {
	Replicated
	// Estate is what is to take the place of the owner's state, nil where nothing is.
	Estate() Estate
	// Lacking is why this node leads without having the storage, nil where it has it or does not lead. Nothing is known then of what is kept there, and
	// nothing can be.
	Lacking() error
}

// An Estate is what a storage holds that this node has just got; or nothing, where it has lost it.
type Estate interface {
	// Replay is Journal's. It may wait, and is called by any goroutine; where it fails, again with functions that begin anew. Of an
	// estate that is nothing it does nothing.
	Replay(snapshot func(data []byte) error, record func(ref Ref, payload []byte) error) error
	// Taken says that what was replayed has taken the place of the owner's state. From then on the journal is that of this storage: the owner retains what
	// the new state refers to at once, and releases nothing of the old one.
	Taken()
	// Over reports that the estate is of no use any more. The owner forgets it. Never over once it is Taken.
	Over() bool
}
