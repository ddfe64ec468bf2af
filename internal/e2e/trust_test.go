//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The server's trust in the owners of files and directories.

// Two users of this machine besides the one that runs the tests.
const (
	alice = 12001
	bob   = 12002
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("to be another user takes root")
	}
}

// as is a command line in front of a program, for another user.
func as(uid int) []string {
	id := strconv.Itoa(uid)
	return []string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups"}
}

// give gives files to another user.
func give(t testing.TB, uid int, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Lchown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

// serverOf is a server's surroundings that belong to a user. XDG_STATE_HOME is
// not set.
func serverOf(t testing.TB, uid int) *server {
	t.Helper()
	s := newServer(t)
	give(t, uid, s.dir, s.home, s.state)
	s.state = ""
	return s
}

// A server of root's started in another user's state directory, and took a
// token that the user had planted there.
func TestServerTrustsNoOther(t *testing.T) {
	needRoot(t)
	t.Parallel()
	const planted = "ATTACKERKNOWSTHISTOKEN1234\n"
	tcp := []string{"--listen", "127.0.0.1:0"}
	mkdir := func(s *server, mode os.FileMode, uid int) string {
		dir := filepath.Join(s.state, "wsexec")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		give(t, uid, dir)
		return dir
	}
	for _, c := range []struct {
		name string
		args []string
		make func(s *server) (blamed string)
	}{
		{"another's directory, 700", tcp, func(s *server) string { return mkdir(s, 0o700, bob) }},
		{"another's parent", tcp, func(s *server) string { mkdir(s, 0o700, 0); give(t, bob, s.state); return s.state }},
		{"a planted token", tcp, func(s *server) string {
			mkdir(s, 0o700, 0)
			path := s.writeFile(t, "state/wsexec/token", planted, 0o600)
			give(t, bob, path)
			return path
		}},
		{"a planted lock", nil, func(s *server) string {
			mkdir(s, 0o700, 0)
			path := s.writeFile(t, "state/wsexec/sock.lock", "", 0o666)
			give(t, bob, path)
			return path
		}},
		{"a token file that was named", append(tcp, "--token-file", "planted"), func(s *server) string {
			path := s.writeFile(t, "planted", planted, 0o600)
			give(t, bob, path)
			return path
		}},
		{"a planted socket", nil, func(s *server) string {
			dir := mkdir(s, 0o700, 0)
			path := filepath.Join(dir, "sock")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			give(t, bob, path)
			return path
		}},
		{"a token file that all can write to", append(tcp, "--token-file", "planted"), func(s *server) string {
			return s.writeFile(t, "planted", planted, 0o666)
		}},
		{"a socket that was named", []string{"--listen", "unix:DIR/home/sock"}, func(s *server) string {
			give(t, bob, s.home)
			return s.home
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			blamed := c.make(s)
			var args []string
			for _, a := range c.args {
				args = append(args, strings.ReplaceAll(a, "DIR", s.dir))
			}
			s.start(t, serverOptions{bare: true, args: args})
			if status := s.waitExit(t, patience); status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			says := "belongs to uid 12002"
			if strings.Contains(c.name, " all") {
				says = "can be written by others"
			}
			checkComplaint(t, "wsexec-server", s.log.String(), blamed, says)
		})
	}
}

// One user's server on TCP port 9022 kept every other user's server from
// starting.
func TestTwoUsersWithNothingConfigured(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, uid := range []int{alice, bob} {
		s := serverOf(t, uid)
		s.start(t, serverOptions{bare: true, wrap: as(uid)})
		s.awaitSocket(t, filepath.Join(s.home, ".local/state/wsexec/sock"))
		argv := append(as(uid), clientBin, "run", "id", "-u")
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = s.environment()
		capture(t, cmd).want(t, 0, fmt.Sprintf("%d\n", uid), "")
	}
}

// In an ordinary user's namespace / belongs to the overflow user. Files of
// another user are refused as ever.
func TestServerInUserNamespace(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s, wrap := inUserNamespace(t)
	s.start(t, serverOptions{bare: true, wrap: wrap})
	sock := filepath.Join(s.state, "wsexec", "sock")
	s.awaitSocket(t, sock)
	argv := append(wrap, clientBin, "run", "id", "-u")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = s.environment()
	capture(t, cmd).want(t, 0, "0\n", "")
	token := s.writeFile(t, "planted", strings.Repeat("t", 43)+"\n", 0o644)
	give(t, bob, token)
	cmd = exec.Command(argv[0], append(argv[1:len(argv)-2:len(argv)-2], "--server", "ws://127.0.0.1:1", "--token-file", token, "true")...)
	cmd.Env = s.environment()
	capture(t, cmd).wantComplaint(t, 125, token, "neither to you nor to root")
}

func wantStartFailureOf(t testing.TB, s *server, args []string, words ...string) {
	t.Helper()
	cmd := exec.Command(serverBin, args...)
	cmd.Env = s.environment()
	r := capture(t, cmd)
	if r.status != 1 {
		t.Errorf("%v, want status 1", r)
	}
	checkComplaint(t, "wsexec-server", r.stderr, words...)
}

// A token file for a server without a TCP listener would let no client in.
func TestTokenFileWithoutTCP(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	wantStartFailureOf(t, s, []string{"--token-file", s.tokenFile}, "--token-file is for TCP", "--listen HOST:PORT")
}

// A resolver that leads localhost elsewhere had the server listen off this machine, and the
// client send its token there, both without encryption.
func TestLocalhostIsThisMachine(t *testing.T) {
	needRoot(t)
	t.Parallel()
	need(t, "ip", "unshare")
	s := newServer(t)
	s.writeFile(t, "hosts", "10.77.0.1 localhost\n", 0o644)
	s.writeFile(t, "token", strings.Repeat("t", 43)+"\n", 0o600)
	cmd := exec.Command("unshare", "--net", "--mount", "bash", "-c", `
		ip link set lo up && ip address add 10.77.0.1/32 dev lo && mount --bind hosts /etc/hosts || exit
		wsexec-server --listen localhost:9022 --token-file token; echo "status $?"
		wsexec-server --listen 10.77.0.1:9022 --host localhost --insecure-plaintext --token-file token 2>said & server=$!
		until grep -q msg=ready said; do sleep 0.01; done
		wsexec run --server ws://10.77.0.1:9022 --insecure-plaintext --token-file token echo hi
		wsexec run --server ws://localhost:9022 --token-file token echo hi; echo "status $?"
		ACTIONS_ID_TOKEN_REQUEST_URL=http://localhost:9022/ ACTIONS_ID_TOKEN_REQUEST_TOKEN=secret \
			wsexec run --server ws://10.77.0.1:9022 --insecure-plaintext --oidc github echo hi; echo "status $?"
		kill $server; wait`)
	cmd.Dir, cmd.Env = s.dir, s.environment()
	r := capture(t, cmd)
	r.want(t, 0, "status 1\nhi\nstatus 125\nstatus 125\n", r.stderr)
	if n := strings.Count(r.stderr, "localhost leads to 10.77.0.1, which is not this machine; see /etc/hosts, or name 127.0.0.1\n"); n != 3 {
		t.Errorf("%d of three errors say what localhost is: %s", n, r.stderr)
	}
}

// inUserNamespace is a server that is not started, and what to start it by: an ordinary
// user, who is root in a user namespace of his own.
func inUserNamespace(t *testing.T) (s *server, wrap []string) {
	t.Helper()
	wrap = append(as(alice), "unshare", "--user", "--map-root-user")
	if err := exec.Command(wrap[0], append(wrap[1:], "true")...).Run(); err != nil {
		t.Skipf("an ordinary user can make no user namespace: %v", err)
	}
	s = newServer(t)
	give(t, alice, s.dir, s.home, s.state)
	return s, wrap
}
