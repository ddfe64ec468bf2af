// Package e2e tests the two programs from the outside: it builds them, starts
// real servers, runs real commands through the real client, on pipes, files,
// terminals and inside tmux, and looks only at what a user sees: output, exit
// status, the terminal, the processes that are there afterwards. It imports
// nothing of wsexec.
//
// The tests need Linux, since they read /proc. A test that needs a program
// which is missing is skipped, with CI set it fails.
//
//	WSEXEC_E2E_RACE=1     builds the programs with the race detector
//	WSEXEC_E2E_BIN=DIR    tests the programs of that folder instead of building
//
// TestStress is the stress suite, which scripts/stress runs.
//
// Rules: a condition is awaited by polling with a deadline ([time.Sleep] stands
// only where the time itself is what a test is about); tests that bound a
// duration do not run in parallel with others, those that move much data do;
// each server has its own home, state directory and token, and when it ends, its
// test fails if a process of it is left, if its log holds the token, or if it
// wrote of a panic or a race.
package e2e
