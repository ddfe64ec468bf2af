package main

import (
	"slices"
	"testing"

	"github.com/urfave/cli/v2"
)

// Flags that know their names are the flags that they were.
func TestNamed(t *testing.T) {
	status := 0
	for _, cmd := range []*cli.Command{runCommand(&status), attachCommand(&status)} {
		for _, f := range cmd.Flags {
			var inner cli.Flag
			switch f := f.(type) {
			case *stringFlag:
				inner = f.StringFlag
			case *boolFlag:
				inner = f.BoolFlag
			case *durationFlag:
				inner = f.DurationFlag
			case *genericFlag:
				inner = f.GenericFlag
			default:
				t.Errorf("%s: %v is a %T, which does not know its names", cmd.Name, f.Names(), f)
				continue
			}
			if !slices.Equal(f.Names(), inner.Names()) {
				t.Errorf("%s: names %q, want %q", cmd.Name, f.Names(), inner.Names())
			}
		}
	}
}
