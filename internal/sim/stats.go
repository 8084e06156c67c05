package sim

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/gmq/gmq/internal/vfs"
)

// Stats are what has really happened: a world without load and faults proves nothing.
type Stats struct {
	Epochs                                                                                           int // of the groups in memory
	Remembered                                                                                       int // worlds in which what was in memory was held to all its promises in the end
	Sessions, Replies, Confirmed, Topics, Repeats, Duplicates, Deliveries, Acked, Nacked, Cancelled  int
	Quiet                                                                                            int // acks that asked for no answer
	Starts, PowerCuts, Kills, Stops, Exits                                                           int
	Torn, Errors, Failed, Flips, Found, Refused, Jumps, Squeezes, DiskFull, AckedFull, Resumed, Lies int
	LostPackets, Partitions, Transfers, Unknown, NoQuorum, Images, Vacated, Plans                    int
	NotYet, Vain, Unavailable                                                                        int
	Snapshots, Compactions                                                                           int
	Stills                                                                                           int // calms without troubles, after which all nodes of a cluster hold the same
}

// Crashes is how many processes ended without being asked to.
func (s *Stats) Crashes() int { return s.PowerCuts + s.Kills + s.Exits }

// Add adds what happened in another world.
func (s *Stats) Add(o Stats) {
	a, b := reflect.ValueOf(s).Elem(), reflect.ValueOf(o)
	for i := range a.NumField() {
		a.Field(i).SetInt(a.Field(i).Int() + b.Field(i).Int())
	}
}

func (s Stats) String() string {
	type plain Stats // without this method
	return strings.Trim(fmt.Sprintf("%+v", plain(s)), "{}")
}

func (s *Stats) ends(how string) {
	switch how {
	case "power cut":
		s.PowerCuts++
	case "kill":
		s.Kills++
	case "stop":
		s.Stops++
	default:
		s.Exits++
	}
}

func (s *Stats) refusedWith(code string) {
	switch code {
	case "disk_full":
		s.DiskFull++
	case "no_quorum":
		s.NoQuorum++
	case "unknown_outcome":
		s.Unknown++
	}
}

// count notes what the journal does to its files.
func (s *Stats) count(op vfs.Op) {
	switch {
	case op.Kind == vfs.OpRename && strings.HasSuffix(op.To, ".snap"):
		s.Snapshots++
	case (op.Kind == vfs.OpRemove || op.Kind == vfs.OpRename) && strings.HasSuffix(op.Path, ".seg"):
		s.Compactions++
	}
}

// Count is one of the numbers, by its name.
func (s *Stats) Count(name string) int {
	if name == "Crashes" {
		return s.Crashes()
	}
	return int(reflect.ValueOf(s).Elem().FieldByName(name).Int())
}
