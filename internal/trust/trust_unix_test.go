//go:build linux || darwin

package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"wsexec/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// stranger is another user than this one and root.
const stranger = 12001

// needRoot skips where files cannot be given to another user.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("giving files away takes root")
	}
}

// A tree is made in a temporary directory: of each path, below that, its mode and
// its owner. A link has a target.
type node struct {
	path   string // with a / at the end: a directory
	mode   fs.FileMode
	uid    int
	gid    int
	target string
}

func plant(t *testing.T, nodes []node) (dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		at := filepath.Join(dir, n.path)
		switch {
		case n.target != "":
			err = os.Symlink(strings.ReplaceAll(n.target, "DIR", dir), at)
		case strings.HasSuffix(n.path, "/"):
			err = os.Mkdir(at, 0o700)
		default:
			err = os.WriteFile(at, []byte("content"), 0o600)
		}
		if err == nil && n.target == "" {
			err = os.Chmod(at, n.mode)
		}
		if err == nil {
			err = os.Lchown(at, n.uid, max(n.uid, n.gid))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A state directory of another user, planted files and links: a server of root's
// started in five of six such set-ups, and took the other's token for its own.
func TestOwnersAndModes(t *testing.T) {
	needRoot(t)
	const sticky = fs.ModeSticky | 0o777
	for _, tt := range []struct {
		name  string
		nodes []node
		path  string // what is opened
		at    string // what is to be blamed; "" is nothing
		owner bool
	}{
		{"own", []node{{path: "d/", mode: 0o700}, {path: "d/f", mode: 0o600}}, "d/f", "", false},
		{"read by others", []node{{path: "d/", mode: 0o755}, {path: "d/f", mode: 0o644}}, "d/f", "", false},
		{"another's directory, 700", []node{{path: "d/", mode: 0o700, uid: stranger}, {path: "d/f", mode: 0o600}}, "d/f", "d", true},
		{"another's directory, 755", []node{{path: "d/", mode: 0o755, uid: stranger}, {path: "d/f", mode: 0o600}}, "d/f", "d", true},
		{"another's directory, 777", []node{{path: "d/", mode: 0o777, uid: stranger}, {path: "d/f", mode: 0o600}}, "d/f", "d", true},
		{"another's parent", []node{{path: "d/", mode: 0o755, uid: stranger}, {path: "d/e/", mode: 0o700}, {path: "d/e/f", mode: 0o600}}, "d/e/f", "d", true},
		{"a planted file", []node{{path: "d/", mode: 0o700}, {path: "d/f", mode: 0o600, uid: stranger}}, "d/f", "d/f", true},
		{"a file in a directory of all", []node{{path: "d/", mode: 0o707}, {path: "d/f", mode: 0o600}}, "d/f", "d", false},
		{"a directory in a directory of all", []node{{path: "d/", mode: 0o777}, {path: "d/e/", mode: 0o700}, {path: "d/e/f", mode: 0o600}}, "d/e/f", "d", false},
		{"a directory of a group", []node{{path: "d/", mode: 0o775, gid: stranger}, {path: "d/f", mode: 0o600}}, "d/f", "d", false},
		{"a file that all can write to", []node{{path: "d/", mode: 0o700}, {path: "d/f", mode: 0o602}}, "d/f", "d/f", false},
		{"a file that a group can write to", []node{{path: "d/", mode: 0o700}, {path: "d/f", mode: 0o620, gid: stranger}}, "d/f", "d/f", false},
		{"a sticky directory", []node{{path: "d/", mode: sticky}, {path: "d/f", mode: 0o600}}, "d/f", "", false},
		{"a sticky directory of another", []node{{path: "d/", mode: sticky, uid: stranger}, {path: "d/f", mode: 0o600}}, "d/f", "d", true},
		{"a planted file in a sticky directory", []node{{path: "d/", mode: sticky}, {path: "d/f", mode: 0o600, uid: stranger}}, "d/f", "d/f", true},
		{"a planted directory in a sticky directory", []node{{path: "d/", mode: sticky}, {path: "d/e/", mode: 0o777, uid: stranger}, {path: "d/e/f", mode: 0o600}}, "d/e/f", "d/e", true},
		{"own links", []node{{path: "d/", mode: 0o700}, {path: "d/f", mode: 0o600}, {path: "l", target: "d"}, {path: "d/m", target: "../d/./f"}}, "l/m", "", false},
		{"an absolute link", []node{{path: "d/", mode: 0o700}, {path: "d/f", mode: 0o600}, {path: "l", target: "DIR/d/f"}}, "l", "", false},
		{"a planted link to a file of ours", []node{{path: "d/", mode: sticky}, {path: "f", mode: 0o600}, {path: "d/l", target: "../f", uid: stranger}}, "d/l", "d/l", true},
		{"a planted link to a directory of ours", []node{{path: "d/", mode: sticky}, {path: "e/", mode: 0o700}, {path: "e/f", mode: 0o600}, {path: "d/l", target: "../e", uid: stranger}}, "d/l/f", "d/l", true},
		{"a link through another's directory", []node{{path: "d/", mode: 0o755, uid: stranger}, {path: "f", mode: 0o600}, {path: "d/up", target: ".."}, {path: "l", target: "d/up/f"}}, "l", "d", true},
		{"..", []node{{path: "d/", mode: 0o700}, {path: "e/", mode: 0o777}, {path: "d/f", mode: 0o600}}, "e/../d/f", "e", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := plant(t, tt.nodes)
			path := dir + "/" + tt.path
			f, err := Open(path)
			if f != nil {
				if b, rerr := io.ReadAll(f); rerr != nil || string(b) != "content" {
					t.Errorf("read %q, %v", b, rerr)
				}
				f.Close()
			}
			wantBlame(t, err, dir, tt.at, tt.owner)
			if parent := path[:strings.LastIndexByte(path, '/')]; tt.at != tt.path && parent != dir {
				wantBlame(t, Dir(parent), dir, tt.at, tt.owner)
			}
		})
	}
}

func wantBlame(t *testing.T, err error, dir, at string, owner bool) {
	t.Helper()
	if at == "" {
		if err != nil {
			t.Errorf("error %v, want none", err)
		}
		return
	}
	var e *Error
	if !errors.As(err, &e) || e.At != filepath.Join(dir, at) || e.Foreign != owner {
		t.Errorf("error %v, want one about %s, owner %v", err, at, owner)
		return
	}
	says, remedy := fmt.Sprintf("belongs to uid %d, neither to you nor to root", stranger), ""
	if !owner {
		says, remedy = fmt.Sprintf("can be written by others (mode %04o)", e.Mode.Perm()), "chmod go-w "+e.At
	}
	if !strings.Contains(e.Error(), e.At) || !strings.Contains(e.Error(), says) || e.Remedy() != remedy {
		t.Errorf("it says %q, and to type %q; want %q and %q", e, e.Remedy(), says, remedy)
	}
}

// The error of a path that does not exist, or goes through a file, is that of
// open(2), and names the path that was asked for.
func TestNotThere(t *testing.T) {
	dir := plant(t, []node{
		{path: "d/", mode: 0o700, uid: os.Getuid()}, {path: "f", mode: 0o600, uid: os.Getuid()},
		{path: "dangling", target: "nothing", uid: os.Getuid()}, {path: "loop", target: "loop", uid: os.Getuid()},
	})
	for _, tt := range []struct {
		path string
		err  error
	}{
		{"none", fs.ErrNotExist}, {"d/none", fs.ErrNotExist}, {"none/none", fs.ErrNotExist}, {"dangling", fs.ErrNotExist},
		{"f/none", syscall.ENOTDIR}, {"f/", syscall.ENOTDIR}, {"f/.", syscall.ENOTDIR}, {"f/..", syscall.ENOTDIR}, {"loop", syscall.ELOOP},
	} {
		path := dir + "/" + tt.path
		f, err := Open(path)
		if f != nil {
			f.Close()
		}
		var p *fs.PathError
		if !errors.Is(err, tt.err) || !errors.As(err, &p) || p.Path != path {
			t.Errorf("Open(%q): %v, want %v of that path", tt.path, err, tt.err)
		}
		if err := Dir(path); !errors.Is(err, tt.err) {
			t.Errorf("Dir(%q): %v, want %v", tt.path, err, tt.err)
		}
	}
	if err := Dir(dir + "/f"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Dir of a file: %v, want ENOTDIR", err)
	}
	// From where we are.
	t.Chdir(dir)
	for _, path := range []string{"d", "./d/", "d/../d", "d//.", "."} {
		if err := Dir(path); err != nil {
			t.Errorf("Dir(%q): %v", path, err)
		}
	}
}

// A FIFO without a writer is opened at once.
func TestOpenDoesNotWait(t *testing.T) {
	path := filepath.Join(plant(t, nil), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("it is %v, %v", st, err)
	}
}

// A descriptor that we were started with is read as it is, pipes and sockets included.
func TestOpenInherited(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	io.WriteString(w, "content")
	w.Close()
	f, err := Open(fmt.Sprintf("/dev/fd/%d", r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "content" {
		t.Errorf("read %q, %v", b, err)
	}
	for _, path := range []string{"/dev/fd/999999", "/proc/self/fd/-1", "/dev/fd/x"} {
		if f, err := Open(path); err == nil {
			f.Close()
			t.Errorf("%s was opened", path)
		}
	}
}

func TestPrivateGroup(t *testing.T) {
	const users = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000:A:/home/alice:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\ncarol:x:1002:100::/home/carol:/bin/sh\n"
	const groups = "root:x:0:\nusers:x:100:\nalice:x:1000:\nbob:x:1001:alice,bob\nstaff:x:50:alice\nbroken\n"
	for _, tt := range []struct {
		gid, uid, name string
		want           bool
	}{
		{"1000", "1000", "alice", true},
		{"1001", "1001", "bob", false},   // alice is in it
		{"1000", "1001", "bob", false},   // another's
		{"50", "1000", "alice", false},   // nobody's first
		{"100", "1002", "carol", true},   // of all, with one who is in it
		{"4711", "1000", "alice", false}, // not known here
	} {
		if got := isPrivate(groups, users, tt.gid, tt.uid, tt.name); got != tt.want {
			t.Errorf("group %s of %s: %v, want %v", tt.gid, tt.name, got, tt.want)
		}
	}
}

// Others' files may be readable, as they know for whom; one's own may not.
func TestExposed(t *testing.T) {
	needRoot(t)
	dir := plant(t, []node{{path: "600", mode: 0o600}, {path: "640", mode: 0o640}, {path: "604", mode: 0o604}, {path: "other", mode: 0o644, uid: stranger}})
	for name, want := range map[string]bool{"600": false, "640": true, "604": true, "other": false} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := Exposed(st); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// The peer of a socket of our own is ourselves. (Another's: internal/e2e.)
func TestPeer(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(plant(t, nil), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := Peer(l.Addr().String(), c); err != nil {
		t.Error(err)
	}
	var s *StrangerError
	if err := checkUser("unix:/x", stranger); !errors.As(err, &s) || s.UID != stranger || s.Self != os.Geteuid() {
		t.Errorf("of another user: %v", err)
	}
	if err := checkUser("unix:/x", 0); err != nil {
		t.Errorf("of root: %v", err)
	}
}

// The end of a connection that was accepted tells which program has connected.
func TestCredentials(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	end, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	if uid, pid, err := Credentials(end); uid != os.Geteuid() || pid != os.Getpid() || err != nil {
		t.Errorf("uid %d, pid %d, %v; want %d and %d", uid, pid, err, os.Geteuid(), os.Getpid())
	}
}

// A log is appended to, made for this user alone, and not opened where another user
// could have put it.
func TestAppend(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := dir + "/log"
	for range 2 {
		f, err := Append(log)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, "line\n")
		f.Close()
	}
	st, err := os.Stat(log)
	if b, _ := os.ReadFile(log); err != nil || st.Mode() != 0o600 || string(b) != "line\nline\n" {
		t.Errorf("%q, %v, %v; want two lines and mode 0600", b, st, err)
	}
	if err := os.Symlink("log", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	f, err := Append(dir + "/link")
	if err != nil {
		t.Error(err)
	}
	f.Close()
	if err := os.Chmod(log, 0o644); err != nil {
		t.Fatal(err)
	}
	if f, err = Append(log); err != nil {
		t.Errorf("one that others may read: %v", err)
	}
	f.Close()

	if err := os.Symlink("nothing", dir+"/dangling"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		dir + "/fifo": "not a regular file", "/dev/null": "not a regular file", dir: "directory",
		dir + "/dangling": "symbolic link to nothing", dir + "/no/log": dir + "/no",
	} {
		if f, err := Append(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v; want it to say %q", path, f, err, says)
		}
	}
	// Such as no log is, but an audit log may be.
	for path, says := range map[string]string{
		dir + "/fifo": "no program reads the FIFO", "/dev/null": "", dir: "directory", dir + "/dangling": "symbolic link to nothing",
	} {
		f, err := AppendAny(path)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
		f.Close()
	}
	r, err := os.OpenFile(dir+"/fifo", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if f, err = AppendAny(dir + "/fifo"); err != nil {
		t.Error(err)
	}
	f.Close()
	t.Chdir(dir)
	if f, err = Append("relative"); err != nil {
		t.Error(err)
	}
	f.Close()

	if err := os.Chmod(log, 0o622); err != nil {
		t.Fatal(err)
	}
	_, err = Append(log)
	wantBlame(t, err, dir, "log", false)
	if err := os.Mkdir(dir+"/open", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/open", 0o777); err != nil {
		t.Fatal(err)
	}
	_, err = Append(dir + "/open/log")
	wantBlame(t, err, dir, "open", false)
	if _, err := os.Lstat(dir + "/open/log"); err == nil {
		t.Error("it was made all the same")
	}
}
