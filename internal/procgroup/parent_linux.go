package procgroup

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
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

const (
	// parentTimeout bounds the time that a parent takes to start the command.
	parentTimeout = 10 * time.Second
	// wakeAfter is the time in which it would have, if the command had not stopped it first of all.
	wakeAfter = 100 * time.Millisecond
)

// A parent is what this process knows of one.
type parent struct {
	pid    int
	leader int
	mark   string   // as of Spec
	pidfd  *os.File // of the leader, nil if there is none
	sock   *os.File
	told   atomic.Bool   // it was told to end, or has died before that
	ended  chan struct{} // closed when it has, and what it had left was ended
	status Status        // set by release

	mu   sync.RWMutex // held for reading while pid is used
	died bool         // pid may be a stranger's
}

// forkBelowParent starts the command by a parent process.
func forkBelowParent(path string, spec *Spec, attr *syscall.ProcAttr) (*child, error) {
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
	p := &parent{pid: pid, mark: spec.Mark, sock: ours, ended: make(chan struct{}), status: Status{Code: -1}}
	started := false
	defer func() {
		// It ends when it is told to, or when ours is closed; or when what cannot be killed has ended after all. Nobody
		// waits for that.
		go func() {
			defer close(p.ended)
			watch()
			p.mu.Lock()
			p.died = true
			reapOwn(pid)
			p.mu.Unlock()
			if started && !p.told.Swap(true) {
				p.endOrphans()
			}
		}()
	}()
	late := time.Now().Add(parentTimeout)
	ours.SetDeadline(late)
	q := startRequest{path: path, dir: attr.Dir, args: spec.Args, env: attr.Env, tty: attr.Sys.Setctty}
	kind, n := byte(0), uint64(0)
	err = q.write(ours)
	for err == nil && kind == 0 {
		next := time.Now().Add(wakeAfter)
		ours.SetReadDeadline(next)
		kind, n, err = readMessage(ours)
		if errors.Is(err, os.ErrDeadlineExceeded) && next.Before(late) {
			p.wake()
			kind, err = 0, nil
		}
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
		p.wake()
		return nil, err
	}
	ours.SetDeadline(time.Time{})
	p.leader = int(n)
	started = true
	// The number is the command's: the parent keeps it, dead or alive.
	if fd, err := unix.PidfdOpen(p.leader, 0); err == nil {
		unix.SetNonblock(fd, true)
		p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	}
	return &child{pid: p.leader, watch: p.watch, reap: func() Status { return p.status }, kill: p.kill, scope: p}, nil
}

// watch waits for the command's end: by itself, since the parent can be stopped by whoever may signal it.
func (p *parent) watch() {
	if !p.seen() {
		if kind, _, err := readMessage(p.sock); err != nil || kind != saysExited {
			<-p.ended
		}
	}
	p.mu.RLock()
	died := p.died
	p.mu.RUnlock()
	if died {
		<-p.ended
	}
}

// seen waits for the command's end. It returns false if there is nothing to see that by.
func (p *parent) seen() bool {
	if p.pidfd == nil {
		return false
	}
	raw, err := p.pidfd.SyscallConn()
	return err == nil && raw.Read(func(fd uintptr) bool { return ready(int(fd), unix.POLLIN) }) == nil
}

// endOrphans ends what a parent has left that somebody has killed, as far as it can be found: it is somebody else's now,
// and how the command ends is not to be known. As long as something is left in the command's session its number is not
// given away.
func (p *parent) endOrphans() {
	s := session(p.leader)
	for range 100 {
		p.kill(syscall.SIGKILL)
		s.signal(process{pid: p.leader}, syscall.SIGKILL)
		ps, err := s.others()
		for _, o := range ps {
			s.signal(o, syscall.SIGKILL)
		}
		strays, serr := carriers(p.mark)
		for _, o := range strays {
			signalIf(o.pid, syscall.SIGKILL, func() bool { return carries(o.pid, p.mark) })
		}
		if err == nil && serr == nil && len(ps)+len(strays) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// carriers lists the living processes that were started with mark in their environment.
func carriers(mark string) ([]process, error) {
	if mark == "" {
		return nil, nil
	}
	ps, err := processes()
	return slices.DeleteFunc(ps, func(p process) bool { return !carries(p.pid, mark) }), err
}

func carries(pid int, mark string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && bytes.Contains(append([]byte{0}, b...), []byte("\x00"+mark+"\x00"))
}

// wake lets a parent that was stopped go on.
func (p *parent) wake() {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.died {
		syscall.Kill(p.pid, syscall.SIGCONT)
	}
}

// signalProcessGroup is PIDFD_SIGNAL_PROCESS_GROUP of man 2 pidfd_send_signal.
const signalProcessGroup = 1 << 2

// kill signals the command's group, by a descriptor, which can mean no stranger's (Linux 6.9), or by its number.
func (p *parent) kill(sig syscall.Signal) error {
	err := error(unix.EINVAL)
	if p.pidfd != nil {
		if raw, rerr := p.pidfd.SyscallConn(); rerr == nil {
			control(raw, func(fd int) { err = unix.PidfdSendSignal(fd, sig, nil, signalProcessGroup) })
		}
	}
	if err != unix.EINVAL {
		return err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.died {
		return syscall.ESRCH // the number may be a stranger's
	}
	return syscall.Kill(-p.leader, sig)
}

func (p *parent) others() ([]process, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.died {
		return nil, nil // see endOrphans
	}
	ps, err := descendants(p.pid)
	return slices.DeleteFunc(ps, func(o process) bool { return o.pid == p.leader }), err
}

func (p *parent) signal(o process, sig syscall.Signal) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.died {
		return
	}
	signalIf(o.pid, sig, func() bool { return descends(o.pid, p.pid) })
}

func (p *parent) killAll() {
	p.wake()
	p.sock.SetWriteDeadline(time.Now().Add(killWait))
	p.sock.Write([]byte{toKill})
}

func (p *parent) release(leave bool) {
	word := byte(toEnd)
	if leave {
		word = toLeave
	}
	p.wake()
	p.sock.SetDeadline(time.Now().Add(2 * killWait))
	first := !p.told.Swap(true)
	_, err := p.sock.Write([]byte{word})
	for kind, n := byte(0), uint64(0); err == nil && kind != saysStatus; {
		if kind, n, err = readMessage(p.sock); err == nil && kind == saysStatus {
			p.status = statusOf(syscall.WaitStatus(n))
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.wake() // once more: it will find the socket closed
	} else if err != nil {
		<-p.ended // it has died
		if first && !leave {
			p.endOrphans()
		}
	}
	p.sock.Close()
	if p.pidfd != nil {
		p.pidfd.Close()
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
			p.wait = 0
			p.reapOrphans()
		case <-gone:
			gone = nil
			sock.Write(message(saysExited, 0))
		case word := <-words: // 0 when the socket has closed
			switch word {
			case toKill:
				p.killing, p.wait = true, 0
			case toLeave:
				p.reapOrphans()
				p.reapLeader()
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
	leader  int                // 0 when it is reaped
	status  syscall.WaitStatus // of it, then
	said    bool
	sock    *os.File
	orphans chan os.Signal
	killing bool
	wait    time.Duration // since the last time that something had ended
}

// mostWait bounds the time between two looks at what does not end: that of another user, or in an uninterruptible sleep.
const mostWait = 64 * time.Millisecond

// again is when there is to be killed once more.
func (p *reaper) again() <-chan time.Time {
	if !p.killing {
		return nil
	}
	p.wait = min(max(2*p.wait, time.Millisecond), mostWait)
	return time.After(p.wait)
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
	p.killing, p.wait = true, 0
	late := time.Now().Add(killWait)
	syscall.Kill(p.leader, syscall.SIGKILL) // has ended, but when the server has
	for {
		left := p.killOthers()
		if p.leader != 0 && (!left || time.Now().After(late)) {
			p.reapLeader()
			continue
		}
		// children can miss some; this does not. So the status, which says that nothing is
		// left, comes after it.
		none := p.leader == 0 && !hasChildren()
		if p.leader == 0 && !p.said && (none || time.Now().After(late)) {
			p.say()
		}
		if none {
			return
		}
		select {
		case <-p.orphans:
			p.wait = 0
		case <-p.again():
		}
	}
}

// reapLeader reaps the command.
func (p *reaper) reapLeader() {
	for {
		if _, err := syscall.Wait4(p.leader, &p.status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	p.leader = 0
}

// say says the status of the command, which is reaped.
func (p *reaper) say() {
	p.said = true
	p.sock.Write(message(saysStatus, uint64(p.status)))
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
