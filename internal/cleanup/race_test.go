//go:build race

package cleanup

const underRace = true
