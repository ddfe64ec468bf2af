package cleanup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"wsexec/internal/procgroup"
)

// maxOutput bounds what Output reads, in bytes.
const maxOutput = 1 << 20

// systemEnvironment is that of a program of the system's: nothing of the server's
// changes what it does.
var systemEnvironment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}

// Output runs a program of the system's, argv[0] being its path, in / and without
// stdin and stderr. It returns what the program writes to stdout and its exit status,
// 128+N where signal N has killed it. When ctx is done the program is killed, and
// Output returns the cause. It is a helper of this process and of no session: package
// os/exec would give it the mark of one, and would miss its end.
func Output(ctx context.Context, argv []string) (out []byte, status int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	c, err := forkUnmarked(argv, []uintptr{null.Fd(), w.Fd(), null.Fd()})
	w.Close()
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", argv[0], err)
	}
	output, ended := make(chan []byte, 1), make(chan struct{})
	go func() { // ends with the pipe
		out, _ := io.ReadAll(io.LimitReader(r, maxOutput+1))
		output <- out
	}()
	go func() { // ends with the program
		defer close(ended)
		c.Wait()
	}()
	out, err = await(ctx, output, ended)
	if err != nil {
		c.Signal(syscall.SIGKILL) // its group is its own, and was not reaped
		go func() {               // one that cannot be killed is not waited for
			<-ended
			c.Reap()
		}()
		return nil, 0, fmt.Errorf("%s: %w", argv[0], err)
	}
	st := c.Reap()
	if st.Signal != 0 {
		return out, 128 + int(st.Signal), nil
	}
	return out, st.Code, nil
}

// await waits for the output of a program and for its end.
func await(ctx context.Context, output <-chan []byte, ended <-chan struct{}) (out []byte, err error) {
	select {
	case out = <-output:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if len(out) > maxOutput {
		return nil, errors.New("it prints too much")
	}
	select {
	case <-ended:
		return out, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// forkUnmarked starts a program whose mark is of no session, in a session and group
// of its own.
func forkUnmarked(argv []string, files []uintptr) (*ownChild, error) {
	marking.Lock() // else it could inherit that of a session which is being started
	defer marking.Unlock()
	return forkOwn(func() (*procgroup.Child, error) {
		return procgroup.Fork(argv[0], argv, &syscall.ProcAttr{Dir: "/", Env: systemEnvironment, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}})
	})
}
