package main

import (
	"runtime"
	"sync/atomic"
)

// A client has little to do at a time, and begins with one processor: with more the
// runtime makes and wakes threads that find nothing to do, for a tenth of the time of
// a short command, on processors that the command and the server need. What carries
// much data gets all of them.

// bulk is from where on data is much, in bytes.
const bulk = 8 << 20

var (
	allProcs int
	carried  atomic.Int64
)

func oneProc() { allProcs = runtime.GOMAXPROCS(1) }

// carry counts n bytes that go through this program.
func carry(n int) {
	if n <= 0 {
		return
	}
	if all := carried.Add(int64(n)); all >= bulk && all-int64(n) < bulk {
		runtime.GOMAXPROCS(allProcs)
	}
}
