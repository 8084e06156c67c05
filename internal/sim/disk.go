package sim

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gmq/gmq/internal/vfs"
)

// faults is what a node's disk is about to do wrong.
type faults struct {
	cut    int    // operations until the power goes; 0: it does not
	torn   bool   // it goes while something of several sectors is being synced
	wrote  int    // bytes of the latest write
	at     int    // operations until the disk is full, or may only be read; 0: never
	only   bool   // it may only be read
	eio    int    // operations until one fails; 0: none does
	kind   string // of the one that fails: "", any
	slow   bool   // each sync takes long
	lies   bool   // a sync does nothing
	lied   bool   // one has done nothing
	struck bool   // an operation has failed in this life, or may have for want of space
	full   bool   // the disk has little room

	relieved bool // it has room again, and nothing has been confirmed since

	away   bool // the storage is elsewhere, and out of reach
	lapsed bool // nothing can be read meanwhile, not even what was fetched
	missed bool // it was away in this life, and may not have recorded an end
}

// reborn ends what a new process does not meet any more.
func (f *faults) reborn() {
	f.cut, f.torn, f.eio, f.at, f.struck, f.missed = 0, false, 0, 0, f.full, f.away
}

// diskSlack is what a log may have beyond four times what is live: compactions take their time on a slow disk.
const diskSlack = 3 << 19

// fault is asked before every operation of the process on its disk.
func (l *life) fault(op vfs.Op) error {
	n := l.n
	w, f := n.w, &n.fault
	if op.Kind != vfs.OpRead && op.Kind != vfs.OpOpen {
		w.note(n.name, "disk: %s %s %s %d+%d", op.Kind, op.Path, op.To, op.Offset, op.Size)
	}
	if w.current == nil || n.life != l {
		return nil
	}
	if d := n.latency(op.Kind); d > 0 {
		w.sleep(d)
	}
	w.stats.count(op)
	if op.Kind == vfs.OpAllocate && l.journal != nil {
		if total, live := l.journal.Used(); total > 4*live+diskSlack {
			w.wrong("P8: the log of %s has %d bytes, of which %d are live", n.name, total, live)
		}
	}
	if op.Kind == vfs.OpWrite {
		f.wrote = op.Size
	}
	if op.Kind == vfs.OpRename { // what had changed by itself there is no more
		n.flips = slices.DeleteFunc(n.flips, func(f flip) bool { return f.file == op.To })
	}
	if f.at > 0 {
		if f.at--; f.at == 0 {
			n.troubled()
		}
	}
	if f.only && changes(op.Kind) {
		f.struck = true
		return syscall.EROFS
	}
	if f.cut > 0 && (!f.torn || op.Kind == vfs.OpSync && f.wrote > 1024) {
		if f.cut--; f.cut == 0 {
			n.die("power cut")
			w.await(nil, -1) // for ever
		}
	}
	if f.eio > 0 && (f.kind == "" || f.kind == string(op.Kind)) {
		if f.eio--; f.eio == 0 {
			w.stats.Errors++
			f.struck = true
			w.note(n.name, "disk: EIO for %s %s", op.Kind, op.Path)
			if op.Kind == vfs.OpSync {
				return &vfs.Lost{Err: syscall.EIO}
			}
			return syscall.EIO
		}
	}
	if f.lies && (op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir) {
		f.lied = true
		return vfs.Pretend
	}
	return nil
}

// latency is how long an operation takes to begin: others go on meanwhile.
func (n *Node) latency(kind vfs.OpKind) time.Duration {
	w := n.w
	switch {
	case kind == vfs.OpSync && n.fault.slow:
		return w.between(2*time.Millisecond, 150*time.Millisecond)
	case kind == vfs.OpSync || kind == vfs.OpSyncDir:
		return w.between(50*time.Microsecond, 2*time.Millisecond)
	case w.chance(4):
		return w.between(0, 50*time.Microsecond)
	}
	return 0
}

// changes reports whether an operation of that kind changes anything on a disk.
func changes(kind vfs.OpKind) bool {
	return kind != vfs.OpRead && kind != vfs.OpOpen && kind != vfs.OpReadDir && kind != vfs.OpLock
}

// troubled begins, in the middle of an operation, what the world's Config asks for, and has it end in a while.
func (n *Node) troubled() {
	w := n.w
	if w.cfg.ReadOnly {
		n.fault.only = true
		w.note(n.name, "the disk may only be read")
		w.after(700*time.Millisecond, func() { n.fault.only = false })
		return
	}
	n.fault.full, n.fault.struck = true, true
	n.disk.SetCapacity(n.disk.Used())
	w.note(n.name, "the disk is full")
	w.after(700*time.Millisecond, n.relieve)
}

// squeeze leaves the disk little room; relieve gives it all back.
func (n *Node) squeeze() {
	n.fault.full, n.fault.struck = true, true
	left := int64(n.w.rng.IntN(80 << 10))
	n.disk.SetCapacity(n.disk.Used() + left)
	n.w.note(n.name, "the disk has room for %d bytes more", left)
}

func (n *Node) relieve() {
	n.fault.full, n.fault.relieved = false, true
	n.disk.SetCapacity(0)
	n.w.note(n.name, "the disk has room again")
}

// rot changes a byte that was written long ago, or, where no process runs, any byte.
func (n *Node) rot() {
	var files []string
	last := ""
	for _, name := range strings.Split(n.disk.List(), "\n") {
		if strings.HasSuffix(name, ".seg") {
			last = max(last, name)
		}
		if strings.HasSuffix(name, ".seg") || strings.HasSuffix(name, ".snap") || filepath.Base(name) == "VERSION" {
			files = append(files, name)
		}
	}
	if len(files) == 0 || n.life != nil && !n.life.ready {
		return // while a process starts, life.before is what its disk must be set back to
	}
	f := flip{file: files[n.w.rng.IntN(len(files))], mask: 1 << n.w.rng.IntN(8)}
	size, err := n.disk.Stat(f.file)
	if err != nil || size == 0 || n.life != nil && f.file == last {
		return // what is being written now is not old
	}
	f.at = n.w.rng.Int64N(size)
	if n.disk.Flip(f.file, f.at, f.mask) == nil {
		n.flips = append(n.flips, f)
		n.w.stats.Flips++
		n.w.note(n.name, "bits %02x of %s change at %d", f.mask, f.file, f.at)
	}
}

// repair undoes what rot did to files that are still there.
func (n *Node) repair() {
	for _, f := range n.flips {
		if n.disk.Flip(f.file, f.at, f.mask) == nil {
			n.w.note(n.name, "%s is as it was at %d", f.file, f.at)
		}
	}
	n.flips = nil
}
