package main

import (
	"testing"
	"time"
)

// The third interrupt within two seconds kills, and only that.
func TestInterrupts(t *testing.T) {
	var k interrupts
	at := func(ms int) bool { return k.add(time.UnixMilli(int64(ms))) }
	for _, tt := range []struct {
		ms   int
		kill bool
	}{{0, false}, {1000, false}, {2001, false}, {2999, true}, {3000, false}, {3001, false}, {3002, true}, {10000, false}, {20000, false}, {22001, false}} {
		if got := at(tt.ms); got != tt.kill {
			t.Errorf("at %d ms: kill is %v", tt.ms, got)
		}
	}
}
