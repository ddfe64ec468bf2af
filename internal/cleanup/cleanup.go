// Package cleanup starts commands in a way that nothing of them escapes:
// everything that a command has started is found, and ended with it.
//
//	cleanup.Helper()                    // first of all, in main
//	c, err := cleanup.NewCleaner(cleanup.ByAuto, log)
//	g, err := c.Start(ctx, who, spec)   // ErrTooLate, ErrMayHaveRun, those of procgroup
//	<-g.Exited()
//	g.Members(n); g.SignalAll(sig)      // what the command has left behind
//	status := g.Reap()                  // ends what is left
//
// A Cleaner finds what a command has started in one of three ways:
//
//   - cgroup: each command is started in a cgroup (v2) of its own. The server's
//     user may make cgroups there, so a command of that user may leave its own.
//   - walk: each command has a small parent process that is the reaper of all its
//     orphaned descendants, so that they are found by walking down from it. It ends
//     them all when this process says so or is killed.
//   - session: the Unix session that the command leads. What calls setsid escapes.
//
// No way is the only one. This process is the reaper of orphans as well
// (PR_SET_CHILD_SUBREAPER, man 2 prctl): a process that has left its cgroup,
// its Unix session and its environment, or has killed its parent process,
// becomes a child of this one when its own parent dies, and is ended with its
// session. All of them inherit a mark (see mark). By the mark the guard process
// ends them if this process is killed, and the next server if the guard is
// killed as well. A command gets away only by a daemon that it asks to start
// something (at, cron, systemd-run).
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
	Way         string
	Why         string          // why not by cgroup
	Cgroup      *CgroupState    // nil without
	Guard       *GuardState     // nil without
	Certain     bool            // every orphan that this process adopts comes from a command
	Own         []int           // children that are no orphans
	Live        map[uint64]bool // sessions that have not ended, and whether a process of theirs that was reaped had run
	Stays       []uint64        // sessions of which something may stay
	StayingPids map[int]uint64  // processes that may stay, and when they started
}

// CgroupState is the cgroup of a CleanerState.
type CgroupState struct {
	Own, Home, Path string
	Pids            int
	Last            int64
}

// GuardState is the guard process of a CleanerState.
type GuardState struct {
	Pid   int
	Stays []byte // the sessions of which something may stay, as they were sent to it
}
