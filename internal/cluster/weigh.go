package cluster

// A Scale finds out of groups on disks whether what they confirm is fsynced by a majority of two members at least. It belongs to one goroutine at a time.
type Scale struct {
	groups []weight // by group
}

type weight struct {
	quorum bool
	floor  uint64 // what must be at a majority first: the leader's last entry when it was first seen to need another member; 0: it does not yet
}

// Quorum says so of a group as it is now. A group that has grown beyond one member confirms by a majority what is proposed from then on; what was
// proposed before may have been confirmed by its leader alone, so that has to be at a majority, too, before anything is said. A member that
// does not lead confirms nothing, and if it comes to lead it does by a majority.
func (sc *Scale) Quorum(s *GroupStatus) bool {
	for len(sc.groups) <= s.Group {
		sc.groups = append(sc.groups, weight{})
	}
	w := &sc.groups[s.Group]
	switch {
	case len(s.Voters) < 2:
		*w = weight{}
	case w.quorum:
	case !s.Leading:
		w.quorum = true
	default:
		if w.floor == 0 {
			w.floor = s.Last
		}
		have := 0
		for _, v := range s.Voters {
			for _, p := range s.Progress {
				if p.Node == v && p.Match >= w.floor {
					have++
				}
			}
		}
		w.quorum = 2*have > len(s.Voters)
	}
	return w.quorum
}
