package config

import (
	"slices"
	"strings"
)

// reloadable are the settings, and the sections, that a running server takes
// over. Everything else is bound to a socket, a file or a directory.
var reloadable = []string{"log.level", "limits.", "queue_defaults.", "drain_timeout"}

// Diff names the settings that differ, and those among them that a running
// server cannot take over.
func Diff(before, after Config) (changed, needRestart []string) {
	for _, s := range settings {
		if s.get(&before) == s.get(&after) {
			continue
		}
		changed = append(changed, s.key)
		if !slices.ContainsFunc(reloadable, func(r string) bool {
			return s.key == r || strings.HasSuffix(r, ".") && strings.HasPrefix(s.key, r)
		}) {
			needRestart = append(needRestart, s.key)
		}
	}
	return changed, needRestart
}
