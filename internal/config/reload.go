package config

import (
	"slices"
	"strings"
)

// reloadable are the settings, and the sections, that a running server takes
// over. Everything else is bound to a socket, a file or a directory.
var reloadable = []string{"log.level", "limits.", "queue_defaults.", "tls.", "drain_timeout"}

// Diff names the settings that differ, and those among them that a running
// server cannot take over.
func Diff(before, after Config) (changed, needRestart []string) {
	for _, s := range settings {
		if s.get(&before) == s.get(&after) {
			continue
		}
		changed = append(changed, s.key)
		// The admin address is either HTTP or HTTPS for as long as it is open.
		if strings.HasPrefix(s.key, "tls.") && (before.TLS == nil) != (after.TLS == nil) {
			needRestart = append(needRestart, s.key)
			continue
		}
		if !slices.ContainsFunc(reloadable, func(r string) bool {
			return s.key == r || strings.HasSuffix(r, ".") && strings.HasPrefix(s.key, r)
		}) {
			needRestart = append(needRestart, s.key)
		}
	}
	return changed, needRestart
}
