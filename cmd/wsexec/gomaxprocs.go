package main

import "runtime"

// oneProcessor has the runtime use one processor. A client has little to do at a
// time. With more processors the runtime makes and wakes threads that find
// nothing to do, where the command and the server need them.
//
// On two processors it buys a third of the throughput of stdin, 0.85 → 1.18 of a
// TCP relay (scripts/bench --only stdin), and 5 % of a short command.
//
// The call takes up to 0.2 ms: the runtime gives back what the other processors
// have cached.
func oneProcessor() { allProcs = runtime.GOMAXPROCS(1) }

// allProcessors undoes oneProcessor.
func allProcessors() { runtime.GOMAXPROCS(allProcs) }

// allProcs is how many processors the runtime used before oneProcessor; 0 before
// that, which changes nothing.
var allProcs int
