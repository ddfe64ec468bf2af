// Package cleanup starts commands in a way that nothing of them escapes:
// everything that a command has started is found, and ended with it.
//
//	cleanup.Helper()                         // first of all, in main
//	c, err := cleanup.NewCleaner(cleanup.ByAuto, log)
//	g, err := c.Start(ctx, who, spec)        // errors.Is: those of procgroup; ErrTooLate, ErrMayHaveRun
//	<-g.Exited()
//	g.Members(n); g.SignalAll(sig)           // what the command has left behind
//	status := g.Reap()                       // ends what is left
//
// A Cleaner knows what a command has started in one of three ways:
//
//   - cgroup: each command is started in a cgroup (v2) of its own. A process of a
//     user who may make cgroups, as the server's must, may also leave it.
//   - walk: each command has a small parent process that is the reaper of all its
//     orphaned descendants, so that they are found by walking down from it. It ends
//     them all when told to, and also when this process is killed.
//   - session: the Unix session that the command leads. What calls setsid escapes.
//
// No way is the only one. This process is the reaper of orphans as well
// (PR_SET_CHILD_SUBREAPER, man 2 prctl): whatever has left its cgroup, its Unix
// session and its environment, or has killed its parent process, becomes a
// child of this one with the death of its own parent, and is ended with its
// session. A mark that all of them inherit (see mark) tells them from others,
// also for the guard process that ends everything if this one is killed, and
// for the next server if that is killed, too. Only what asks another daemon to
// start something (at, cron, systemd-run) gets away.
//
// Starts are bounded, in time and in number: nothing that a client names can
// hold the server up.
package cleanup

import (
	"errors"

	"wsexec/internal/procgroup"
)

// What Start says of a command that it has given up.
var (
	// ErrTooLate: it was not started in time, and is not going to run.
	ErrTooLate = errors.New("the command could not be started in time")
	// ErrMayHaveRun: it was given up, and it is not known whether it has run.
	ErrMayHaveRun = errors.New("the command could not be started in time, and it is not known whether it ran")
)

// The ways in which a Cleaner finds what a command has started.
const (
	ByAuto    = "auto" // the first of those below that works
	ByCgroup  = "cgroup"
	ByWalk    = "walk"
	bySession = "session"
)

// Member is a living process that a command has started, itself or by others.
type Member struct {
	Pid     int
	Name    string // as the kernel has it: up to 15 bytes, chosen by the process
	Holding bool   // it has an output of the command open; also true where that cannot be known (darwin)
}

// State is a Group as it is written down. Its descriptors go beside it.
type State struct {
	Group   procgroup.State
	Session uint64 // of the mark; 0: there is none
	Thread  int    // that forked the command
	Proven  bool   // nothing is left of the command's processes, and nothing can come
	Cgroup  string // the directory of its cgroup; "": it has none
	Parent  int    // the number of its parent process; 0: it has none
}

// CleanerState is a Cleaner as it is written down. Its descriptors go beside
// it.
type CleanerState struct {
	Way     string
	Why     string          // why not by cgroup
	Cgroup  *CgroupState    // nil without
	Guard   *GuardState     // nil without
	Certain bool            // every orphan that this process adopts comes from a command
	Own     []int           // children that are no orphans
	Live    map[uint64]bool // sessions that have not ended, and whether a process of theirs that was reaped had run
	Left    []uint64        // sessions of which something may stay
	LeftPid map[int]uint64  // processes that may stay, and when they started
}

// CgroupState is the cgroup of a CleanerState.
type CgroupState struct {
	Own, Home, Path string
	Pids            int
	Last            int64
}

// GuardState is the guard process of a CleanerState.
type GuardState struct {
	Pid  int
	Left []byte // what it was told of sessions of which something may stay
}
