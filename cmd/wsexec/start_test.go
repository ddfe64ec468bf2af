package main

import (
	"runtime"
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

// What carries much data gets all processors, once.
func TestCarry(t *testing.T) {
	all := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(all)
	defer carried.Store(carried.Load())
	runtime.GOMAXPROCS(3)
	oneProc()
	carried.Store(0)
	for _, n := range []int{0, -1, bulk / 2, bulk/2 - 1} {
		carry(n)
	}
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("%d processors for little data", n)
	}
	carry(1)
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors for much data, want 3", n)
	}
	runtime.GOMAXPROCS(2)
	carry(bulk)
	if n := runtime.GOMAXPROCS(0); n != 2 {
		t.Errorf("set again, to %d", n)
	}
}
