//go:build linux

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A real black hole: the kernel of one side drops every packet, as if a cable
// were pulled out. The relay cannot do that: bytes that it keeps were
// acknowledged by the kernels, and it cannot make a connection hang while it is
// made.

// A cable is a network of its own: two namespaces with an interface each. The
// server is at the one end, the client at the other, and nothing else.
type cable struct{ server, client string } // names of namespaces

const (
	serverAddress = "192.0.2.1" // RFC 5737
	clientAddress = "192.0.2.2"
)

var cables atomic.Int64

// newCable lays a cable, which goes with the test.
func newCable(t testing.TB) cable {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	need(t, "ip", "nft", "nsenter")
	name := fmt.Sprintf("wsexec%d-%d", os.Getpid(), cables.Add(1))
	c := cable{name + "s", name + "c"}
	for _, ns := range []string{c.server, c.client} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Skipf("no network namespace can be made here: %v: %s", err, out)
		}
		t.Cleanup(func() {
			// Its interface, and with that the other one, goes with it.
			if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
				t.Errorf("the network namespace %s is left: %v: %s", ns, err, out)
			}
		})
	}
	for _, args := range []string{
		"link add eth0 netns " + c.server + " type veth peer name eth0 netns " + c.client,
		"-n " + c.server + " addr add " + serverAddress + "/30 dev eth0",
		"-n " + c.client + " addr add " + clientAddress + "/30 dev eth0",
		"-n " + c.server + " link set eth0 up",
		"-n " + c.client + " link set eth0 up",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	return c
}

// in is what makes a command run in a namespace. (ip netns exec would hide the
// cgroups.)
func in(ns string) []string { return []string{"nsenter", "--net=/run/netns/" + ns, "--"} }

// start starts a server at its end.
func (c cable) start(t testing.TB) *server {
	t.Helper()
	s := newServer(t)
	s.start(t, serverOptions{wrap: in(c.server), args: []string{"--listen", serverAddress + ":0", "--insecure-plaintext"}})
	address := regexp.MustCompile("ws://" + regexp.QuoteMeta(serverAddress) + `:\d+`)
	eventually(t, patience, "the server listens", func() error {
		if s.url = address.FindString(s.log.String()); s.url == "" {
			return fmt.Errorf("its log is %q", s.log.String())
		}
		return nil
	})
	return s
}

// wsexec is a client at its end.
func (c cable) wsexec(s *server, args ...string) *exec.Cmd {
	argv := append(append(in(c.client), clientBin), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = append(s.clientEnv(), "WSEXEC_INSECURE_PLAINTEXT=1"), s.dir
	return cmd
}

// pull makes every packet be dropped, and plugIn ends that.
func (c cable) pull() error {
	return c.nft(`table inet hole {
		chain in { type filter hook input priority 0; policy drop; }
		chain out { type filter hook output priority 0; policy drop; }
	}`)
}

func (c cable) plugIn() error { return c.nft("delete table inet hole") }

func (c cable) nft(rules string) error {
	argv := append(in(c.server), "nft", rules)
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %v: %s", err, out)
	}
	return nil
}

// awaitLost waits until both sides say that the connection is lost.
func awaitLost(t testing.TB, s *server, c *client) {
	t.Helper()
	for _, side := range []struct {
		what, says string
		in         *buffer
	}{{"server", "msg=lost ", &s.log}, {"client", "connection lost", &c.stderr}} {
		eventually(t, patience, "the "+side.what+" says that the connection is lost", func() error {
			if got := side.in.String(); !strings.Contains(got, side.says) {
				return fmt.Errorf("it says %s", quote(got))
			}
			return nil
		})
	}
}

// In the middle of output both sides notice within what keepalive says, and
// when the network is back all goes on at the exact byte.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	c := newCable(t)
	s := c.start(t)
	const n = 24 << 20 // more than fits between the two
	file := s.file(t, 11, n)
	log := s.startLog()
	cmd := c.wsexec(s, append([]string{"run", "--keepalive", "500ms"}, log.noting("sh", "-c", "cat "+file+"; exit 17")...)...)
	got := newSum()
	var once sync.Once
	pulled := make(chan error, 1)
	cmd.Stdout = io.MultiWriter(got, writerFunc(func(p []byte) (int, error) {
		if got.n > n/8 {
			once.Do(func() { pulled <- c.pull() })
		}
		return len(p), nil
	}))
	cl := startClient(t, cmd)
	select {
	case err := <-pulled:
		if err != nil {
			t.Fatal(err)
		}
	case <-cl.exited:
		t.Fatalf("the client ended: %s", quote(cl.stderr.String()))
	}
	begin := time.Now()
	awaitLost(t, s, cl)
	t.Logf("both sides had said so after %v", time.Since(begin))
	if err := c.plugIn(); err != nil {
		t.Fatal(err)
	}
	res := cl.wait(t, patience)
	if want := sumOf(seededBytes(11, n)); res.status != 17 || got.String() != want {
		t.Errorf("got %v, want %v and status 17: %v", got, want, res)
	}
	if !strings.Contains(res.stderr, "wsexec: connected again after ") {
		t.Errorf("stderr is %s, want it to say that the connection is back", quote(res.stderr))
	}
	log.want(t, 1)
}

// One that lasts ends both: the client gives up and the server ends the
// command, each by itself.
func TestBlackHoleForGood(t *testing.T) {
	t.Parallel()
	c := newCable(t)
	s := c.start(t)
	log := s.startLog()
	arg := uniqueSleep()
	cl := startClient(t, c.wsexec(s, append([]string{"run", "--keepalive", "1s", "--linger", "2s"},
		log.noting("sh", "-c", "echo ready; sleep "+arg+" | cat")...)...))
	cl.expect(t, "ready\n")
	begin := time.Now() // nothing is lost before
	if err := c.pull(); err != nil {
		t.Fatal(err)
	}
	awaitLost(t, s, cl)
	res := cl.wait(t, patience)
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("the client gave up after %v, want --linger, 2s", took)
	}
	if res.status != 125 || res.stdout != "ready\n" || !strings.Contains(res.stderr, "lost") {
		t.Errorf("got %v, want status 125 and stdout %q", res, "ready\n")
	}
	awaitSleepers(t, 0, arg) // while nobody can have told the server
	eventually(t, patience, "nothing is left", s.quiet)
	log.want(t, 1)
}
