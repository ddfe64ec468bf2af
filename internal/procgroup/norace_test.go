//go:build !race

package procgroup

const underRace = false
