package procgroup

import (
	"encoding/gob"
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// entryName is the name under which this program is the entry of a command.
const entryName = "wsexec-entry"

func isEntry() bool { return len(os.Args) > 0 && os.Args[0] == entryName }

// The entry calls execve on its first thread, which is the one that init has: of
// another the kernel would make the first one, and a descriptor of the process
// reports an end meanwhile. Scheduling, capabilities and keyrings are those of a
// thread, too.
func init() {
	if isEntry() {
		runtime.LockOSThread()
	}
}

// Helper has to be called first of all by a program that prepares a Spec with a
// User. In an entry, which is that program under another name, it does not return.
func Helper() {
	if !isEntry() {
		return
	}
	leaveSignalsToTheKernel()
	unix.CloseOnExec(3)
	sock := os.NewFile(3, "server")
	to, from := gob.NewEncoder(sock), gob.NewDecoder(sock)
	var q entryRequest
	if from.Decode(&q) == nil {
		setProcessName(q.Name)
		err := q.enter(func(r entryReply) error {
			var goOn bool
			if to.Encode(&r) != nil || from.Decode(&goOn) != nil || !goOn {
				return errNotWanted
			}
			return nil
		})
		if err != errNotWanted {
			to.Encode(failedReply(err))
		}
	}
	syscall.Exit(1)
}

// leaveSignalsToTheKernel takes Go's handlers away. The user's other processes may signal
// the entry. Of a signal that ends it, Go would write what its goroutines did to the
// command's stderr.
func leaveSignalsToTheKernel() {
	// Setuid and its like have all threads of a Go program follow by this signal
	// (runtime.sigPerThreadSyscall). Sent by others it has no effect.
	const ofThreads = syscall.Signal(33)
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if sig != ofThreads {
			setDefault(sig)
		}
	}
}

// setProcessName names the process by this thread, its first one. A name that cannot be
// set counts as the command's.
func setProcessName(name string) {
	if b, err := unix.BytePtrFromString(name); err == nil {
		unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0)
	}
}

// A missingError says where no command was found.
type missingError struct {
	found Found
	error
}

func (e *missingError) Unwrap() error { return e.error }

func failedReply(err error) entryReply {
	r := entryReply{Failure: failureOf(err)}
	var m *missingError
	if errors.As(err, &m) {
		r.Found = m.found
	}
	return r
}

var errNotWanted = errors.New("nobody asks for the command any more")

// enter becomes the user, and then the command. ask says what was found, and returns
// nil when the command is to run. enter returns only an error. The order is a
// promise:
//
//  1. What only root may do: the streams become the user's, what the server has in
//     scheduling goes, and a new session keyring replaces the server's.
//  2. The ids, the groups and the capabilities become the user's. From here on this
//     is a process of the user's. But it is closed to the user's other processes,
//     since the kernel forbids to trace it until execve (man 2 PR_SET_DUMPABLE).
//  3. A new session keyring, which is the user's, unless it may have no more keys.
//  4. The directory and the command are looked up, and asked for.
//  5. execve.
func (q *entryRequest) enter(ask func(entryReply) error) error {
	if err := q.User.become(q.TTY); err != nil {
		return err
	}
	dir, err := enterable(q.Dir, q.OrRoot)
	if err != nil {
		return &missingError{Found{Dir: q.Dir}, err}
	}
	spec := Spec{Args: q.Args, Env: q.Env, Dir: dir, LookIn: q.LookIn}
	if q.Vet {
		spec.Vet = func(f Found) error { return ask(entryReply{Dir: dir, Found: f}) }
		spec.Missing = func(f Found, err error) error { return &missingError{f, err} }
	}
	c, err := spec.find()
	if err == nil && !q.Vet {
		err = ask(entryReply{Dir: dir, Found: c.found()})
	}
	if err != nil {
		return err
	}
	path, at := c.at()
	if err := os.Chdir(at); err != nil {
		return execError(c, reason(err))
	}
	return execError(c, syscall.Exec(path, c.Args, c.Env))
}
