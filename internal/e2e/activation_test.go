//go:build linux

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// listenAt is a socket that a service manager hands to a server, and closes never.
func listenAt(t testing.TB, network, address string) (f *os.File, at string) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	at = l.Addr().String()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err = l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Cleanup(func() { f.Close() })
	return f, at
}

// A server listens on the sockets that it is handed, and on those of --listen. Commands
// learn nothing of that, and a socket outlives the server: the next one serves clients
// that have connected in between.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	sock, flagged := filepath.Join(s.dir, "sock"), filepath.Join(s.dir, "flagged")
	unix, _ := listenAt(t, "unix", sock)
	tcp, address := listenAt(t, "tcp", "127.0.0.1:0")
	for _, round := range []string{"first", "second"} {
		args := []string{"--token-file", s.tokenFile, "--listen", "unix:" + flagged}
		s.start(t, serverOptions{bare: true, args: args, files: []*os.File{unix, tcp}})
		s.awaitLine(t, "listening on unix:"+sock+" and ws://"+address+" and unix:"+flagged)
		for _, server := range []string{"unix:" + sock, "ws://" + address, "unix:" + flagged} {
			cmd := s.wsexec("run", "--server", server, "--token-file", s.tokenFile, "sh", "-c", "env | grep LISTEN; ls /proc/self/fd")
			if server != "ws://"+address {
				cmd = s.wsexec("run", "--server", server, "sh", "-c", "env | grep LISTEN; ls /proc/self/fd")
			}
			capture(t, cmd).want(t, 0, "0\n1\n2\n3\n", "") // 3 is the directory
		}
		s.cmd.Process.Signal(syscall.SIGTERM)
		if status := s.waitExit(t, patience); status != 0 {
			t.Fatalf("%s: status %d", round, status)
		}
		if _, err := os.Lstat(sock); err != nil {
			t.Errorf("%s: the service manager's socket: %v", round, err)
		}
		for _, path := range []string{sock + ".lock", flagged} {
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%s: there is %s", round, path)
			}
		}
	}

	waiting := s.background(t, "--server", "unix:"+sock, "echo", "served")
	time.Sleep(100 * time.Millisecond) // most often it has connected then
	s.start(t, serverOptions{bare: true, files: []*os.File{unix}})
	waiting.wait(t, patience).want(t, 0, "served\n", "")
	if _, err := os.Stat(filepath.Join(s.state, "wsexec")); err == nil {
		t.Error("the server has made a state directory, that it does not use")
	}
}

// TLS is that of --tls-cert, on a socket that is handed over, too.
func TestSocketActivationTLS(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.tlsInit(t)
	tcp, address := listenAt(t, "tcp", "0.0.0.0:0")
	cert, key := filepath.Join(s.state, "wsexec/cert.pem"), filepath.Join(s.state, "wsexec/key.pem")
	s.start(t, serverOptions{bare: true, files: []*os.File{tcp}, args: []string{"--token-file", s.tokenFile, "--tls-cert", cert, "--tls-key", key}})
	s.awaitLine(t, "listening on wss://"+address)
	_, port, _ := net.SplitHostPort(address)
	capture(t, s.wsexec("run", "--server", "wss://localhost:"+port, "--ca", cert, "--token-file", s.tokenFile, "echo", "hi")).want(t, 0, "hi\n", "")
}

// Who can open a Unix socket, its mode and owner say, whatever --socket-mode does. Others
// than the server's user and root are no principals all the same.
func TestSocketActivationOfOthers(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, c := range []struct {
		owner int
		mode  os.FileMode
		says  string
	}{
		{0, 0o600, "the socket lets in its owner alone"},
		{0, 0o666, "the socket lets in the server's own user, root, and users whom the policy names"},
		{bob, 0o600, "the socket lets in the server's own user, root, and users whom the policy names"},
	} {
		s := newServer(t)
		if err := os.Chmod(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		sock := filepath.Join(s.dir, "sock")
		f, _ := listenAt(t, "unix", sock)
		if err := os.Chmod(sock, c.mode); err != nil {
			t.Fatal(err)
		}
		give(t, c.owner, sock)
		s.start(t, serverOptions{bare: true, files: []*os.File{f}})
		s.awaitLine(t, c.says)
		capture(t, s.wsexec("run", "--server", "unix:"+sock, "echo", "hi")).want(t, 0, "hi\n", "")
		if c.owner == 0 && c.mode == 0o600 {
			continue
		}
		cmd := s.wsexec("run", "--server", "unix:"+sock, "echo", "hi")
		cmd.Path, cmd.Args = "/usr/bin/setpriv", append(as(bob), cmd.Args...)
		cmd.Env, cmd.Dir = s.environment("HOME=/"), "/"
		capture(t, cmd).wantComplaint(t, 125, "the server's socket does not know uid 12002")
	}
}

// What cannot be served is one line that names the unit's settings.
func TestSocketActivationRefused(t *testing.T) {
	t.Parallel()
	dir := newServer(t).dir
	everywhere, address := listenAt(t, "tcp", "0.0.0.0:0")
	sequential, _ := listenAt(t, "unixpacket", filepath.Join(dir, "sequential"))
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	connected, other := os.NewFile(uintptr(pair[0]), "connected"), os.NewFile(uintptr(pair[1]), "other")
	defer connected.Close()
	defer other.Close()
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	udp, err := datagrams.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	file, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unit := "in its socket unit say ListenStream= and Accept=no"
	for _, c := range []struct {
		file  *os.File
		words []string
	}{
		{everywhere, []string{address, "off this machine and not encrypted", "--tls-cert FILE", "ListenStream=127.0.0.1:PORT", "--insecure-plaintext"}},
		{connected, []string{"descriptor 3 (a), which the service manager handed over, is a socket that does not listen", unit}},
		{udp, []string{"descriptor 3 (a)", "is a socket that does not listen", unit}},
		{file, []string{"descriptor 3 (a)", "is no socket", unit}},
		{sequential, []string{"descriptor 3 (a)", "is a socket of another kind (unixpacket)", unit}},
	} {
		wantStartFailure(t, serverOptions{files: []*os.File{c.file}}, c.words...)
	}
	unix, _ := listenAt(t, "unix", filepath.Join(dir, "sock"))
	wantStartFailure(t, serverOptions{files: []*os.File{unix, connected}}, "descriptor 4 (b)", "is a socket that does not listen", unit)
	for _, flag := range []string{"--token-file", "--tokens"} {
		wantStartFailure(t, serverOptions{files: []*os.File{unix}, args: []string{flag, dir + "/file"}}, flag+" is for TCP", "--listen HOST:PORT")
	}
	s := startServerWith(t, serverOptions{files: []*os.File{everywhere}, args: []string{"--insecure-plaintext", "--token-file", dir + "/token"}, bare: true})
	s.awaitLine(t, "listening on ws://"+address)
}

// Variables for another process, such as the shell that a service manager has started,
// mean nothing (man 3 sd_listen_fds). The descriptor of that process reaches no command.
func TestSocketActivationOfAnother(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	f, at := listenAt(t, "unix", filepath.Join(s.dir, "sock"))
	s.start(t, serverOptions{bare: true, files: []*os.File{f}, wrap: []string{"env", "LISTEN_PID=1"}})
	s.awaitLine(t, "listening on unix:"+s.state)
	if strings.Contains(s.log.String(), at) {
		t.Errorf("it listens on the socket of another process: %s", s.log.String())
	}
	capture(t, s.wsexec("run", "sh", "-c", "env | grep LISTEN; ls /proc/self/fd")).want(t, 0, "0\n1\n2\n3\n", "")
}
