// Package nowait makes system calls that cannot wait, with as little around them as
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
// Whoever makes them over and over without ever waiting calls [runtime.Gosched] now and then: with
// the monitor asleep nobody else may look at the network.
package nowait
