// Package poll reads, writes and waits outside the runtime's poller and, on
// Linux, behind the scheduler's back.
//
// Read, Write and their kin are raw system calls on Linux. The scheduler takes
// note of every other system call. Where the program was idle, its monitor has
// to be woken for that and then looks every 20 µs, which on a small machine
// takes the processor from the thread that has to answer next. Where the call
// takes longer than 20 µs, as one that moves 64 KiB does, the monitor may hand
// the goroutine's processor to another thread. (runtime/proc.go of Go 1.26:
// entersyscall_sysmon, retake.) Echo of a key: 155 µs, with raw calls 138 µs;
// with 5 ms between keys 248 µs, with raw calls 173 µs (scripts/bench).
//
// A single call of another kind on the way of a key undoes that. With the modes
// of the terminals and the foreground group asked for by package unix each end
// had 4.7 context switches for a key instead of 2.1, and 120 µs of processor
// time instead of 80.
//
// So the descriptor must be non-blocking, unless the function says that it
// never waits. All calls are repeated after EINTR.
//
// A loop that makes only raw calls must call [runtime.Gosched] regularly. The
// runtime polls the network when a goroutine blocks; if none does, other
// connections wait for 10 ms or longer (runtime/proc.go, sysmon). Gosched wakes
// a thread that polls, which costs bulk data some of a processor.
//
// A [Waiter] waits for a descriptor without the wake-ups that the runtime's
// poller makes for every change of it.
package poll
