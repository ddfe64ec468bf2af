package procgroup

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// playsVariable has the test binary play a part for a user.
const playsVariable = "WSEXEC_TEST_PLAYS"

func init() {
	if part, id, ok := strings.Cut(os.Getenv(playsVariable), " "); ok {
		runtime.LockOSThread()
		uid, _ := strconv.Atoi(id)
		parts[part](uint32(uid))
		os.Exit(0)
	}
}

var parts = map[string]func(uid uint32){
	// fill: a process of the user's, which has all the keys that the user may have
	"fill": func(uint32) {
		for i := 0; ; i++ {
			if _, err := unix.AddKey("user", fmt.Sprint(i), []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING); err != nil {
				fmt.Println(err == unix.EDQUOT)
				io.Copy(io.Discard, os.Stdin)
				return
			}
		}
	},
	// become: root's, with a session keyring; becomes the user, and prints whether it can
	// be traced, and whether it has another session keyring
	"become": func(uid uint32) {
		before, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
		if err != nil {
			before = -1
		}
		if err := (&User{UID: uid, GID: uid}).become(false); err != nil {
			fmt.Println(err)
			return
		}
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		after, _ := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
		fmt.Println(dumpable, err, before == -1 || before != after && after > 0)
	},
}

// playing is the test binary that plays a part, in a process of the user with the first
// number.
func playing(part string, as, uid uint32) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{fmt.Sprintf("%s=%s %d", playsVariable, part, uid)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as, Gid: as}}
	return cmd
}

// A user that had all the keys that it may have could run nothing. One whose ids were the
// server's could be traced by other processes of root's without CAP_SYS_PTRACE.
func TestBecome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, to become another user")
	}
	const full = 54399
	filler := playing("fill", full, full)
	stdin, err := filler.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := filler.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := filler.Start(); err != nil {
		t.Fatal(err)
	}
	defer filler.Wait()
	defer stdin.Close()
	var isFull bool
	fmt.Fscan(stdout, &isFull)
	owner := func() (uid, gid uint32) {
		var st unix.Stat_t
		if err := unix.Stat(os.DevNull, &st); err != nil {
			t.Fatal(err)
		}
		return st.Uid, st.Gid
	}
	uid0, gid0 := owner()
	for _, uid := range []uint32{0, 54321, full} {
		if uid == full && !isFull {
			continue // there are no keyrings here
		}
		out, err := playing("become", 0, uid).CombinedOutput()
		if err != nil || string(out) != "0 <nil> true\n" {
			t.Errorf("as %d: %s, %v", uid, out, err)
		}
		if u, g := owner(); u != uid0 || g != gid0 { // its stdin
			os.Chown(os.DevNull, int(uid0), int(gid0))
			t.Errorf("as %d: /dev/null belongs to %d and %d", uid, u, g)
		}
	}
	if !isFull {
		t.Log("no keyrings can be filled here")
	}
}
