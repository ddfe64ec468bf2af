//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// slowInput reads what another program writes to a pipe, a FIFO or a socket, until
// a time. It waits for a writer of a FIFO that has none yet.
type slowInput struct {
	file    *os.File
	until   time.Time
	waiting func() // called once, when it takes long
	said    bool
}

// noticeable is how long something is waited for without a word.
const noticeable = time.Second

func (s *slowInput) Read(p []byte) (n int, err error) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) { n, err = s.read(int(fd), p) })
	if err == nil {
		err = cerr
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

func (s *slowInput) read(fd int, p []byte) (int, error) {
	for {
		left := time.Until(s.until)
		if left <= 0 {
			return 0, errors.New("nothing came from whoever is to write to it")
		}
		long := !s.said && left > noticeable
		if long {
			left = noticeable
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if err == nil && n == 0 && long {
			s.said = true
			s.waiting()
		}
		if err == nil && n > 0 {
			n, err = unix.Read(fd, p)
			if err == nil {
				return n, nil
			}
		}
		if err != nil && err != unix.EINTR && err != unix.EAGAIN {
			return 0, err
		}
	}
}

// openStatusFile opens the status file as a shell's > would, symbolic links
// included. For a reader of a FIFO it waits until the limit, and calls waiting once
// when that takes long.
func openStatusFile(name string, limit time.Duration, waiting func()) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK|unix.O_NOCTTY, 0o666)
	if !errors.Is(err, syscall.ENXIO) {
		return f, err
	}
	if st, serr := os.Stat(name); serr != nil || st.Mode().Type() != fs.ModeNamedPipe {
		return nil, err
	}
	type result struct {
		f   *os.File
		err error
	}
	opened := make(chan result, 1)
	spawn(func() { // not waited for: nothing ends such an open(2) but a reader
		f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOCTTY, 0)
		opened <- result{f, err}
	})
	late := time.After(limit)
	long := time.After(noticeable)
	for {
		select {
		case r := <-opened:
			return r.f, r.err
		case <-late:
			return nil, fmt.Errorf("open %s: nobody reads this pipe", name)
		case <-long:
			waiting()
		}
	}
}
