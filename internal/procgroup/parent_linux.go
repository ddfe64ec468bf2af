package procgroup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The parent process of a command: reaper of everything that the command starts, and guard of it in one. It is this
// program under another name, with the command's streams as 0, 1 and 2, and a socket as 3 on which
//
//	this process says  what to start (startRequest)
//	the parent         started: the command's number, or the errno
//	the parent         exited: the command has ended and is a zombie
//	this process       one byte: kill (everything but the zombie, until there is nothing), end (the same until there is
//	                   nothing, then reap the command and say its status) or leave (reap it and say its status)
//	the parent         the status, and ends
//
// When the socket closes it kills everything and ends.

const (
	toKill  = 'k'
	toEnd   = 'e'
	toLeave = 'l'
)

// A message of the parent's is one of these letters and a number.
const (
	saysStarted = 's' // the number of the command
	saysFailed  = 'f' // the errno
	saysExited  = 'x'
	saysStatus  = 'w' // as of wait4
)

const messageSize = 9

func message(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

func readMessage(r io.Reader) (kind byte, n uint64, err error) {
	var b [messageSize]byte
	_, err = io.ReadFull(r, b[:])
	return b[0], binary.BigEndian.Uint64(b[1:]), err
}

// A startRequest is what the parent is to start.
type startRequest struct {
	path, dir string
	args, env []string
	tty       bool
}

// write writes the request: each string with its length before it, each list with its number of strings.
func (q *startRequest) write(w io.Writer) error {
	b := bufio.NewWriter(w)
	number := func(n int) { b.Write(binary.AppendUvarint(nil, uint64(n))) }
	str := func(s string) { number(len(s)); b.WriteString(s) }
	list := func(l []string) {
		number(len(l))
		for _, s := range l {
			str(s)
		}
	}
	str(q.path)
	str(q.dir)
	list(q.args)
	list(q.env)
	if q.tty {
		number(1)
	} else {
		number(0)
	}
	return b.Flush()
}

// maxRequest bounds a string or list: more is no request.
const maxRequest = 1 << 30

func readStartRequest(b *bufio.Reader) (*startRequest, error) {
	var err error
	number := func() int {
		n, e := binary.ReadUvarint(b)
		if e == nil && n > maxRequest {
			e = errors.New("too large")
		}
		if err == nil {
			err = e
		}
		if err != nil {
			return 0
		}
		return int(n)
	}
	str := func() string {
		s := make([]byte, number())
		if _, e := io.ReadFull(b, s); err == nil {
			err = e
		}
		return string(s)
	}
	list := func() []string {
		var l []string
		for n := number(); len(l) < n && err == nil; {
			l = append(l, str())
		}
		return l
	}
	q := &startRequest{path: str(), dir: str(), args: list(), env: list()}
	q.tty = number() == 1
	return q, err
}

// parentTimeout bounds the time that a parent takes to start the command.
const parentTimeout = 10 * time.Second

// A parent is what this process knows of one.
type parent struct {
	pid    int
	leader int
	pidfd  int // of the leader, -1 if there is none
	sock   *os.File
	died   atomic.Bool // before it was told to
	status Status
}

// forkBelowParent starts the command by a parent process.
func forkBelowParent(path string, args []string, attr *syscall.ProcAttr) (*child, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	unix.SetNonblock(fds[0], true)
	ours, theirs := os.NewFile(uintptr(fds[0]), "parent"), os.NewFile(uintptr(fds[1]), "parent")
	defer theirs.Close()
	pid, watch, err := startHelper(syscall.SysProcAttr{}, append(attr.Files[:3:3], theirs.Fd()), parentName)
	if err != nil {
		ours.Close()
		return nil, err
	}
	go func() {
		// It ends when it is told to, or when ours is closed; or when what cannot be killed has ended after all. Nobody
		// waits for that.
		watch()
		reapOwn(pid)
	}()
	p := &parent{pid: pid, sock: ours, pidfd: -1, status: Status{Code: -1}}
	ours.SetDeadline(time.Now().Add(parentTimeout))
	q := startRequest{path: path, dir: attr.Dir, args: args, env: attr.Env, tty: attr.Sys.Setctty}
	kind, n := byte(0), uint64(0)
	if err = q.write(ours); err == nil {
		kind, n, err = readMessage(ours)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("the command's parent process: %w", err)
	case kind == saysFailed:
		err = syscall.Errno(n)
	case kind != saysStarted:
		err = errNoHelper
	}
	if err != nil {
		ours.Close()
		return nil, err
	}
	ours.SetDeadline(time.Time{})
	p.leader = int(n)
	// The number is the command's: the parent keeps it, dead or alive.
	if fd, err := unix.PidfdOpen(p.leader, 0); err == nil {
		p.pidfd = fd
	}
	return &child{pid: p.leader, watch: p.watch, reap: func() Status { return p.status }, kill: p.kill, scope: p}, nil
}

// watch waits for the word that the command has ended.
func (p *parent) watch() {
	if kind, _, err := readMessage(p.sock); err == nil && kind == saysExited {
		return
	}
	// Somebody has killed the parent. What it had started is now somebody else's: what can be found of it is ended, and
	// how the command ends is not to be known.
	p.died.Store(true)
	for range 100 {
		p.kill(syscall.SIGKILL)
		ps, err := p.others()
		for _, o := range ps {
			p.signal(o, syscall.SIGKILL)
		}
		if err == nil && len(ps) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// signalProcessGroup is PIDFD_SIGNAL_PROCESS_GROUP of man 2 pidfd_send_signal.
const signalProcessGroup = 1 << 2

// kill signals the command's group, by a descriptor, which can mean no stranger's (Linux 6.9), or by its number.
func (p *parent) kill(sig syscall.Signal) error {
	if p.pidfd >= 0 {
		if err := unix.PidfdSendSignal(p.pidfd, sig, nil, signalProcessGroup); err != unix.EINVAL {
			return err
		}
	}
	if p.died.Load() {
		return syscall.ESRCH // the number may be a stranger's
	}
	return syscall.Kill(-p.leader, sig)
}

func (p *parent) others() ([]process, error) {
	if p.died.Load() {
		return session(p.leader).others()
	}
	ps, err := descendants(p.pid)
	for i := range ps {
		if ps[i].pid == p.leader {
			ps = append(ps[:i], ps[i+1:]...)
			break
		}
	}
	return ps, err
}

func (p *parent) signal(o process, sig syscall.Signal) {
	if p.died.Load() {
		session(p.leader).signal(o, sig)
		return
	}
	signalIf(o.pid, sig, func() bool { return descends(o.pid, p.pid) })
}

func (p *parent) killAll() { p.sock.Write([]byte{toKill}) }

func (p *parent) release(leave bool) {
	word := byte(toEnd)
	if leave {
		word = toLeave
	}
	p.sock.SetDeadline(time.Now().Add(2 * killWait))
	if _, err := p.sock.Write([]byte{word}); err == nil {
		if kind, n, err := readMessage(p.sock); err == nil && kind == saysStatus {
			p.status = statusOf(syscall.WaitStatus(n))
		}
	}
	p.sock.Close()
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
		p.pidfd = -1
	}
}

// ---- in the parent process

// parentMain is the parent process.
func parentMain() {
	deafen()
	sock := os.NewFile(3, "server")
	unix.CloseOnExec(3)
	unix.CloseRange(4, 1<<31-1, 0)
	in := bufio.NewReader(sock)
	q, err := readStartRequest(in)
	if err != nil {
		return
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		sock.Write(message(saysFailed, uint64(err.(syscall.Errno))))
		return
	}
	orphans := make(chan os.Signal, 1)
	signal.Notify(orphans, unix.SIGCHLD)
	pid, watch, err := forkHere(q.path, q.args, &syscall.ProcAttr{
		Dir: q.dir, Env: q.env, Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: q.tty, Ctty: 0},
	})
	if err != nil {
		errno := syscall.EIO
		errors.As(err, &errno)
		sock.Write(message(saysFailed, uint64(errno)))
		return
	}
	closeStdio()
	sock.Write(message(saysStarted, uint64(pid)))
	p := &reaper{leader: pid, sock: sock, orphans: orphans}

	exited := make(chan struct{})
	go func() {
		watch()
		close(exited)
	}()
	words := make(chan byte)
	go func() {
		for {
			word, err := in.ReadByte()
			if err != nil {
				close(words)
				return
			}
			words <- word
		}
	}()
	gone := exited
	for {
		select {
		case <-orphans:
			p.reapOrphans()
		case <-gone:
			gone = nil
			sock.Write(message(saysExited, 0))
		case word := <-words: // 0 when the socket has closed
			switch word {
			case toKill:
				p.killing = true
			case toLeave:
				p.reapOrphans()
				p.say()
				return
			case toEnd:
				p.end()
				return
			default:
				p.end()
				return
			}
		case <-p.again():
		}
		if p.killing {
			p.killing = p.killOthers()
		}
	}
}

// closeStdio gives up the command's streams, whose ends others wait for.
func closeStdio() {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	for fd := range 3 {
		if err == nil {
			unix.Dup3(null, fd, 0)
		} else {
			unix.Close(fd)
		}
	}
	unix.Close(null)
}

// A reaper is the state of the parent process.
type reaper struct {
	leader  int // 0 when it is reaped
	sock    *os.File
	orphans chan os.Signal
	killing bool
}

// again is when there is to be killed once more.
func (p *reaper) again() <-chan time.Time {
	if !p.killing {
		return nil
	}
	return time.After(time.Millisecond)
}

// reapOrphans reaps every child that has ended, but for the command.
func (p *reaper) reapOrphans() {
	kids, _ := children(os.Getpid())
	for _, pid := range kids {
		if pid != p.leader {
			syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// killOthers kills every child but the command, and reports whether one is left. The children of one that has ended
// become ours, so that everything is killed at last. Only children are: nobody but us reaps them, so that their numbers
// are theirs.
func (p *reaper) killOthers() (left bool) {
	kids, err := children(os.Getpid())
	for _, pid := range kids {
		if pid == p.leader {
			continue
		}
		syscall.Kill(pid, syscall.SIGKILL)
		if n, _ := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); n != pid {
			left = true
		}
	}
	return left || err != nil
}

// end ends everything, says the command's status, and returns when there is nothing left.
func (p *reaper) end() {
	late := time.Now().Add(killWait)
	syscall.Kill(p.leader, syscall.SIGKILL) // has ended, but when the server has
	for {
		left := p.killOthers()
		if p.leader != 0 && (!left || time.Now().After(late)) {
			p.say()
			continue
		}
		// children can miss some; this does not.
		if p.leader == 0 && !hasChildren() {
			return
		}
		select {
		case <-p.orphans:
		case <-time.After(time.Millisecond):
		}
	}
}

// say reaps the command and says its status.
func (p *reaper) say() {
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(p.leader, &ws, 0, nil); err != syscall.EINTR {
			break
		}
	}
	p.leader = 0
	p.sock.Write(message(saysStatus, uint64(ws)))
}

// hasChildren reports whether this process has any, zombies included.
func hasChildren() bool {
	var info unix.Siginfo
	for {
		switch err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err {
		case unix.EINTR:
		default:
			return err != unix.ECHILD
		}
	}
}
