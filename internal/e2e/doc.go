// Package e2e tests the two programs from the outside. It builds them, starts
// real servers, and runs real commands through the real client, on pipes, files,
// terminals and inside tmux. It looks only at what a user sees: output, exit
// status, the terminal, the processes that are there afterwards. Of wsexec it
// imports nothing but package leak.
//
// A rule of the protocol, a timer or a table of cases is tested in the package
// that has it, in a millisecond each. A test is here if only real processes,
// terminals, kernels and networks can show its promise.
//
// The tests need Linux, since they read /proc. A test that needs a program which
// is missing is skipped; with CI set it fails.
//
//	WSEXEC_E2E_RACE=1     builds the programs with the race detector
//	WSEXEC_E2E_BIN=DIR    tests the programs of that folder instead of building
//	WSEXEC_E2E_SESSION=60s  how long TestTokensThatExpire takes, in place of 6 s
//
// TestStress is the stress suite, which scripts/stress runs.
//
// A condition is awaited by polling with a deadline: [time.Sleep] stands only
// where a test is about the time itself. Tests run in parallel, except those that
// measure a time, a server's memory, or something of the whole machine. Each
// server has its own home, state directory and token. At its end the test fails
// if a process of it is left, if its log holds the token, or if it wrote of a
// panic or a race.
package e2e
