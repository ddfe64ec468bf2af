// Package poll makes system calls that cannot wait, with as little around them as
// there can be.
//
// On Linux they are raw: the runtime does not know of them. Of any other system call its
// monitor takes note. Where the program was idle, it has to be woken for that, and then
// looks every 20 µs, which on a small machine takes the processor from whoever has to
// answer next; and where the call takes longer than that, as one that moves 64 KiB does, it
// may hand the goroutine's processor to another thread. (runtime/proc.go of Go 1.26:
// entersyscall_sysmon, retake.)
//
// So the descriptor must not be blocking, or the call be one that never is. All
// calls are repeated after EINTR.
//
// Whoever makes them over and over without ever waiting calls [runtime.Gosched] now and then.
// The runtime looks at the network when a goroutine waits, and otherwise every 10 ms or, as its
// monitor sleeps, later (runtime/proc.go, sysmon): a Ctrl-C has waited for 80 ms behind the
// flood that it was to end. Gosched wakes a thread that does it, which costs bulk data some
// of a processor.
package poll
