//go:build race

package stream

// raceEnabled: with the race detector, sync.Pool drops some of what it is
// given, and everything takes longer.
const raceEnabled = true
