package stdio

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TSTP, which this program blocks in all of its threads, was blocked in the programs
// that it started, too: Ctrl-Z could never stop them.
func TestChildCanBeStopped(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	set, before := setOf(syscall.SIGTSTP), unix.Sigset_t{}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &before); err != nil {
		t.Fatal(err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	grep, err := exec.LookPath("grep")
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := StartProcess(grep, []string{"grep", "-E", "^(SigBlk|NSpgid|Pid):", "/proc/self/status"}, &os.ProcAttr{Files: []*os.File{nil, w, nil}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(r)
	p.Wait()
	if !strings.Contains(string(out), "SigBlk:\t0000000000000000\n") {
		t.Errorf("its status is\n%s", out)
	}
	if !isBlocked(syscall.SIGTSTP) {
		t.Error("TSTP is no longer blocked here")
	}
}
