// Package stdio is the local side of a command that runs elsewhere: the three
// descriptors that this program was started with, its terminal and the signals
// that it gets.
//
// All of them are shared with other programs. A shell gave them and wants them
// back: so the flags of a descriptor are never changed, the modes of the terminal
// are restored on every way out ([Terminal], [Go]), and of a file that stdin is,
// what the command did not consume is given back ([Input]). An [Output] writes
// what goes without waiting, so that it is known at any time how many bytes the
// reader has. [Say] is the one way to stderr for text of this program's own.
//
// Functions take descriptors by number: 0 is stdin, 1 stdout, 2 stderr.
package stdio
