package loadgen

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

// clockTicks are those of /proc a second: Linux has had 100 since it has had users.
const clockTicks = 100

// CPUOf gives what tells how much of the processors a process has used; nil where the system does not say.
func CPUOf(pid int) func() time.Duration {
	if runtime.GOOS != "linux" {
		return nil
	}
	name := fmt.Sprintf("/proc/%d/stat", pid)
	return func() time.Duration {
		text, err := os.ReadFile(name)
		if err != nil {
			return 0 // it has ended
		}
		// Behind the name, which may hold anything, in brackets: fields 3 and on; 14 and 15 are wanted.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) < 13 {
			return 0
		}
		user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
		system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
		if err1 != nil || err2 != nil {
			return 0
		}
		return time.Duration(user+system) * time.Second / clockTicks
	}
}
