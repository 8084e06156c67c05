//go:build !linux

package loadgen

func newFineAlarm() alarm { return newCoarseAlarm() }
