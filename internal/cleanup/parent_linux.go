package cleanup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
)

// The parent process of a command reaps everything that the command starts, and
// guards it. It is this program under another name, with the command's streams
// as 0, 1 and 2, and a socket as 3, over which go, in this order,
//
//	from this process  a startRequest
//	from the parent    msgStarted, or msgFailed
//	from the parent    msgExited: the command has ended and is a zombie
//	from this process  orderKill, any number of them
//	from this process  orderEnd or orderLeave
//	from the parent    msgStatus; then it ends
//
// When the socket closes, the parent kills everything and ends.

const (
	orderKill  = 'k' // kill all but the command, until there are none
	orderEnd   = 'e' // the same, then reap the command
	orderLeave = 'l' // reap the command
)

// A message of the parent's is one of these letters and a number.
const (
	msgStarted = 's' // the number of the command
	msgFailed  = 'f' // the errno
	msgExited  = 'x'
	msgStatus  = 'w' // as of wait4
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
	cgroup    bool   // descriptor 4 is the one that it is to be in
	pins      int    // so many descriptors behind those are the command's Pins
	passed    int    // and so many behind these are its Passed
	session   uint64 // of its mark
}

// write writes the request: each string with its length before it, each list
// with its number of strings.
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
	for _, yes := range []bool{q.tty, q.cgroup} {
		if yes {
			number(1)
		} else {
			number(0)
		}
	}
	number(q.pins)
	number(q.passed)
	b.Write(binary.AppendUvarint(nil, q.session))
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
	q.tty, q.cgroup, q.pins, q.passed = number() == 1, number() == 1, number(), number()
	if err == nil {
		q.session, err = binary.ReadUvarint(b)
	}
	return q, err
}

// wakeAfter is the time in which a parent would have started the command, if
// the command had not stopped it first of all.
const wakeAfter = 100 * time.Millisecond

// A parent is what this process knows of one.
type parent struct {
	pid      int
	leader   int
	kin      kin
	cancel   func() error // endStart, once: its first answer counts
	child    *ownChild    // the parent process
	pidfd    *os.File     // of the leader, nil if there is none
	sock     *os.File
	released atomic.Bool      // it was sent orderEnd or orderLeave, or has died before that
	status   procgroup.Status // set by release

	ended    chan struct{} // closed when the parent has ended, and what it had left was ended
	detached chan struct{} // closed when attend has given up, see detach

	mu   sync.RWMutex // held for reading while pid is used
	died bool         // pid may be a stranger's
}

// forkBelowParent starts the command by a parent process, and in the cgroup of
// that descriptor unless it is negative.
func forkBelowParent(a *attempt, k *kin, cmd *procgroup.Command, cgroup int) (*leader, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	unix.SetNonblock(fds[0], true)
	ours, theirs := os.NewFile(uintptr(fds[0]), "parent"), os.NewFile(uintptr(fds[1]), "parent")
	files := append(cmd.Files[:3:3], theirs.Fd())
	if cgroup >= 0 {
		files = append(files, uintptr(cgroup))
	}
	pins, passed := cmd.Pins(), cmd.Passed()
	files = append(append(files, pins...), passed...)
	f, err := startHelper(syscall.SysProcAttr{}, files, parentName)
	theirs.Close() // or its end would not be seen
	if err != nil {
		ours.Close()
		return nil, err
	}
	k.tid = f.Thread
	p := &parent{pid: f.Pid, kin: *k, sock: ours, child: f, ended: make(chan struct{}), detached: make(chan struct{}), status: procgroup.Status{Code: -1}}
	p.cancel = sync.OnceValue(p.endStart)
	begun := make(chan bool, 1) // whether Start returns the command
	go p.attend(begun)
	err = p.begin(a, &startRequest{path: cmd.Path, dir: cmd.Dir, args: cmd.Args, env: cmd.Env, tty: cmd.TTY, cgroup: cgroup >= 0, pins: len(pins), passed: len(passed), session: k.session})
	begun <- err == nil
	if err != nil {
		ours.Close()
		p.wake()
		return nil, err
	}
	ours.SetDeadline(time.Time{})
	p.openLeader()
	return &leader{p, p.leader, p}, nil
}

// attend waits for the end of the parent process, and reaps it. The parent ends
// at orderEnd or orderLeave, or when our end of the socket is closed; with a
// process that cannot be killed, when that has ended after all. Nobody waits
// for attend.
func (p *parent) attend(begun <-chan bool) {
	if !p.child.Wait() {
		close(p.detached)
		return
	}
	defer close(p.ended)
	p.mu.Lock()
	p.died = true
	p.child.Reap()
	p.mu.Unlock()
	if <-begun && !p.released.Swap(true) {
		p.kin.endAll()
	}
}

// openLeader opens a descriptor of the leader. Its number is the command's: the
// parent keeps it, dead or alive.
func (p *parent) openLeader() {
	if fd, err := unix.PidfdOpen(p.leader, 0); err == nil {
		unix.SetNonblock(fd, true)
		p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	}
}

// begin has the parent start the command.
func (p *parent) begin(a *attempt, q *startRequest) error {
	if !a.begin(p.cancel) {
		return ErrTooLate
	}
	err := q.write(p.sock)
	kind, n := byte(0), uint64(0)
	for err == nil && kind == 0 {
		p.sock.SetReadDeadline(time.Now().Add(wakeAfter))
		kind, n, err = readMessage(p.sock)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.wake()
			kind, err = 0, nil
		}
	}
	switch {
	case err != nil:
		// It has died: killed by cancel, or by the command.
		return p.cancel()
	case kind == msgFailed:
		return syscall.Errno(n)
	case kind != msgStarted:
		return errNoHelper
	}
	p.leader = int(n)
	return nil
}

// endStart kills the parent and what it has started or is about to start, and
// returns ErrTooLate if the command is known not to have run.
func (p *parent) endStart() error {
	p.mu.RLock()
	if !p.died {
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
	p.mu.RUnlock()
	for pace := newPace(killWait); ; {
		p.mu.RLock()
		died := p.died
		p.mu.RUnlock()
		if died { // and what it had started is ours
			return p.kin.verdict(p.kin.endAll())
		}
		if !pace.again() {
			return ErrMayHaveRun
		}
	}
}

// Wait waits for the command's end: by itself, since the command can have
// stopped the parent.
func (p *parent) Wait() (ended bool) {
	switch err := p.awaitLeader(); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false // detached
	case err != nil:
		if kind, _, err := readMessage(p.sock); err != nil || kind != msgExited {
			<-p.ended
		}
	}
	p.mu.RLock()
	died := p.died
	p.mu.RUnlock()
	if died {
		<-p.ended
	}
	return true
}

// awaitLeader waits for the command's end by its descriptor.
func (p *parent) awaitLeader() error {
	if p.pidfd == nil {
		return os.ErrInvalid
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool { return poll.IsReadable(int(fd)) })
}

// wake lets a parent that was stopped go on.
func (p *parent) wake() {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.died {
		syscall.Kill(p.pid, syscall.SIGCONT)
	}
}

// Signal signals the command's group, by a descriptor, which can mean no
// stranger's (Linux 6.9), or by its number.
func (p *parent) Signal(sig syscall.Signal) error {
	err := error(unix.EINVAL)
	if p.pidfd != nil {
		if raw, rerr := p.pidfd.SyscallConn(); rerr == nil {
			poll.Control(raw, func(fd int) { err = unix.PidfdSendSignal(fd, sig, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP) })
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

// Reap returns the status that the parent process has said.
func (p *parent) Reap() procgroup.Status { return p.status }

func (p *parent) others() ([]proctab.Process, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.died {
		return nil, nil // what it had is adopted
	}
	ps, err := proctab.Descendants(p.pid)
	return slices.DeleteFunc(ps, func(o proctab.Process) bool { return o.Pid == p.leader }), err
}

func (p *parent) signal(o proctab.Process, sig syscall.Signal) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.died {
		return
	}
	proctab.SignalIf(o.Pid, sig, func() bool { return proctab.Descends(o.Pid, p.pid) })
}

func (p *parent) killAll() {
	p.wake()
	p.sock.SetWriteDeadline(time.Now().Add(killWait))
	p.sock.Write([]byte{orderKill})
}

func (p *parent) release(leave bool) (survivors []proctab.Process) {
	order := byte(orderEnd)
	if leave {
		order = orderLeave
	}
	p.wake()
	p.sock.SetDeadline(time.Now().Add(2 * killWait))
	first := !p.released.Swap(true)
	_, err := p.sock.Write([]byte{order})
	for kind, n := byte(0), uint64(0); err == nil && kind != msgStatus; {
		if kind, n, err = readMessage(p.sock); err == nil && kind == msgStatus {
			p.status = procgroup.StatusOf(syscall.WaitStatus(n))
		}
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.wake() // once more: it will find the socket closed
	case err != nil:
		<-p.ended // it has died
		if first && !leave {
			p.kin.endAll()
		}
	}
	if !leave {
		survivors, _ = p.others() // what it waits for is in an uninterruptible sleep, or another user's
	}
	p.sock.Close()
	if p.pidfd != nil {
		p.pidfd.Close()
	}
	return survivors
}

// ---- in the parent process

// parentMain is the parent process.
func parentMain() {
	surviveSignals()
	sock := os.NewFile(3, "server")
	unix.CloseOnExec(3)
	in := bufio.NewReader(sock)
	q, err := readStartRequest(in)
	if err != nil {
		return
	}
	next := uintptr(4)
	if q.cgroup {
		unix.CloseOnExec(4)
		next++
	}
	take := func(n int) (fds []uintptr) {
		for range n {
			unix.CloseOnExec(int(next))
			fds = append(fds, next)
			next++
		}
		return fds
	}
	pins, passed := take(q.pins), take(q.passed)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		sock.Write(message(msgFailed, uint64(err.(syscall.Errno))))
		return
	}
	spare(helperThreads) // before there is a command that could take them
	orphans := make(chan os.Signal, 1)
	signal.Notify(orphans, unix.SIGCHLD)
	server := ownMark().server
	if server != 0 {
		setSession(0, server, q.session) // the command inherits it
	}
	path, dir := procgroup.AtPins(q.path, q.dir, pins)
	f, err := procgroup.Fork(path, q.args, &syscall.ProcAttr{
		Dir: dir, Env: q.env, Files: append([]uintptr{0, 1, 2}, passed...),
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: q.tty, Ctty: 0, UseCgroupFD: q.cgroup, CgroupFD: 4},
	})
	if q.cgroup {
		unix.Close(4)
	}
	for _, fd := range append(pins, passed...) {
		unix.Close(int(fd)) // with one of Passed the server would miss the command's start
	}
	if server != 0 {
		setSession(0, server, stayBit)
	}
	if err != nil {
		errno := syscall.EIO
		errors.As(err, &errno)
		sock.Write(message(msgFailed, uint64(errno)))
		return
	}
	closeStdio()
	sock.Write(message(msgStarted, uint64(f.Pid)))
	p := &reaper{leader: f.Pid, sock: sock, orphans: orphans}

	exited := make(chan struct{})
	go func() {
		f.Wait()
		close(exited)
	}()
	orders := make(chan byte)
	go func() {
		for {
			order, err := in.ReadByte()
			if err != nil {
				close(orders)
				return
			}
			orders <- order
		}
	}()
	leaderExited := exited
	for {
		select {
		case <-orphans:
			p.wait = 0
			p.reapOrphans()
		case <-leaderExited:
			leaderExited = nil
			sock.Write(message(msgExited, 0))
		case order := <-orders: // 0 when the socket has closed
			switch order {
			case orderKill:
				p.killing, p.wait = true, 0
			case orderLeave:
				p.reapOrphans()
				p.reapLeader()
				p.sendStatus()
				return
			case orderEnd:
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
	leader     int                // 0 when it is reaped
	status     syscall.WaitStatus // of it, then
	statusSent bool
	sock       *os.File
	orphans    chan os.Signal
	killing    bool
	wait       time.Duration // since the last time that something had ended
}

// mostWait bounds the time between two looks at what does not end: that of
// another user, or in an uninterruptible sleep.
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
	kids, _ := proctab.Children(os.Getpid())
	for _, pid := range kids {
		if pid != p.leader {
			syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// killOthers kills every child but the command, and reports whether one lives
// on. The children of one that has ended become ours, so that everything is
// killed at last. Only children are: nobody but us reaps them, so that their
// numbers are theirs.
func (p *reaper) killOthers() (alive bool) {
	kids, err := proctab.Children(os.Getpid())
	for _, pid := range kids {
		if pid == p.leader {
			continue
		}
		syscall.Kill(pid, syscall.SIGKILL)
		if n, _ := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); n != pid {
			alive = true
		}
	}
	return alive || err != nil
}

// end ends everything, says the command's status, and returns when there is
// nothing left.
func (p *reaper) end() {
	p.killing, p.wait = true, 0
	deadline := time.Now().Add(killWait)
	syscall.Kill(p.leader, syscall.SIGKILL) // has ended, but when the server has
	for {
		alive := p.killOthers()
		if p.leader != 0 && (!alive || time.Now().After(deadline)) {
			p.reapLeader()
			continue
		}
		// children can miss some; this does not. So the status, which says that
		// nothing is left, comes after it.
		none := p.leader == 0 && !hasChildren()
		if p.leader == 0 && !p.statusSent && (none || time.Now().After(deadline)) {
			p.sendStatus()
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

// sendStatus sends the status of the command, which is reaped.
func (p *reaper) sendStatus() {
	p.statusSent = true
	p.sock.Write(message(msgStatus, uint64(p.status)))
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
