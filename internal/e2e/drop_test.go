//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Output that nobody reads: the command waits, or the oldest bytes go and the
// client names the gap.

var dropped = regexp.MustCompile(`wsexec: (\d+) bytes of stdout were dropped here: nobody had read them in time\r?\n`)

// checkGaps checks that out is the stream truth, with a line in place of each
// gap, and returns the length of all gaps.
func checkGaps(t testing.TB, what string, out, truth []byte) (missing int64) {
	t.Helper()
	var at int64
	for len(out) > 0 {
		n := len(out)
		m := dropped.FindSubmatchIndex(out)
		if m != nil {
			n = m[0]
		}
		if at+int64(n) > int64(len(truth)) || !bytes.Equal(out[:n], truth[at:][:n]) {
			t.Errorf("%s: %d bytes behind %d, %d of them dropped, are not what was printed", what, n, at, missing)
			return missing
		}
		at += int64(n)
		out = out[n:]
		if m != nil {
			gap, _ := strconv.ParseInt(string(dropped.FindSubmatch(out)[1]), 10, 64)
			at += gap
			missing += gap
			out = out[m[1]-m[0]:]
		}
	}
	if at != int64(len(truth)) {
		t.Errorf("%s: what came and what was dropped are %d bytes, want %d", what, at, len(truth))
	}
	return missing
}

// outOfPlace returns the first index of out that is not part of truth in its
// order, -1 if there is none. truth is random.
func outOfPlace(out, truth []byte) int {
	at := 0
	for at < len(out) {
		i := bytes.Index(truth, out[at:min(at+32, len(out))])
		if i < 0 {
			return at
		}
		for truth = truth[i:]; at < len(out) && len(truth) > 0 && out[at] == truth[0]; at++ {
			truth = truth[1:]
		}
	}
	return -1
}

// droppedOf returns the counts of stdout in a status file.
func droppedOf(t testing.TB, path string) (bytes, dropped int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var st struct{ Bytes, Dropped map[string]int64 }
	if err := json.Unmarshal(b, &st); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return st.Bytes["stdout"], st.Dropped["stdout"]
}

// With --on-full drop a command ends though its output has no reader. Each gap
// is named on stderr at its place, and no other byte is missing.
func TestDropWhileNobodyReads(t *testing.T) {
	heavy(t)
	s := startServer(t)
	idleServer, _ := idleMemory(t, s)
	n := int64(40 << 20)
	file := s.file(t, 9, n)
	truth, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"-T", "-T 2>&1", "-t 2>&1"} {
		if how == "-t 2>&1" { // a terminal is slower
			n = 20 << 20
			truth = truth[:n]
		}
		out, w := pipe(t)
		status := filepath.Join(s.dir, "status")
		cmd := s.wsexec("run", how[:2], "--on-full", "drop", "--status-file", status, "sh", "-c", fmt.Sprintf("test ! -t 1 || stty raw -echo; head -c %d %s; exit 3", n, file))
		cmd.Stdout = w
		if strings.HasSuffix(how, "2>&1") {
			cmd.Stderr = w
		}
		c := startClient(t, cmd)
		w.Close()
		s.awaitEnded(t, 1) // where nobody has read a byte
		got, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		r := c.wait(t, patience)
		var missing int64
		if cmd.Stderr == io.Writer(w) {
			missing = checkGaps(t, how, got, truth)
			got = dropped.ReplaceAll(got, nil)
		} else {
			// stderr is apart, and does not show where.
			for _, m := range dropped.FindAllStringSubmatch(r.stderr, -1) {
				gap, _ := strconv.ParseInt(m[1], 10, 64)
				missing += gap
			}
			if rest := dropped.ReplaceAllString(r.stderr, ""); rest != "" {
				t.Errorf("%s: stderr has %s, too", how, quote(rest))
			}
			if at := outOfPlace(got, truth); at >= 0 {
				t.Errorf("%s: from %d on the output is not what was printed, in that order", how, at)
			}
		}
		if r.status != 3 || int64(len(got))+missing != n || missing < n/2 {
			t.Errorf("%s: %d bytes came and %d were dropped, want %d in all: %v", how, len(got), missing, n, r.state)
		}
		if b, d := droppedOf(t, status); b != int64(len(got)) || d != missing {
			t.Errorf("%s: the status file says %d bytes and %d dropped, where %d came and %d were", how, b, d, len(got), missing)
		}
		checkMemory(t, "server", s.pid, idleServer)
	}
}

// A command with --on-full drop ends while its client is away. The client gets
// one gap.
func TestDropWithoutConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	const n = 20 << 20
	file := s.file(t, 11, n)
	truth, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out, w := pipe(t)
	cmd := s.wsexec("run", "--server", r.url, "--on-full", "drop", "sh", "-c", "head -c 1000 "+file+"; "+s.until("go")+"; tail -c +1001 "+file)
	cmd.Stdout, cmd.Stderr = w, w
	c := startClient(t, cmd)
	w.Close()
	got := make([]byte, 1000)
	if _, err := io.ReadFull(out, got); err != nil {
		t.Fatal(err)
	}
	r.lose(t)
	s.touch(t, "go")
	s.awaitState(t, "ended")
	r.find()
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	// A line says how long the client was away.
	rest = regexp.MustCompile(`wsexec: conn[^\n]*\n`).ReplaceAll(rest, nil)
	if missing := checkGaps(t, "without a connection", append(got, rest...), truth); missing != n-1000-1<<20 {
		t.Errorf("%d bytes are missing, want all but the first 1000 and the last MiB", missing)
	}
	if r := c.wait(t, patience); r.status != 0 || len(dropped.FindAll(rest, -1)) != 1 {
		t.Errorf("got %v, with %d gaps", r, len(dropped.FindAll(rest, -1)))
	}
}

// A detached session drops output by itself, since no client may ever come;
// with block it waits. The client that attaches gets the gap.
func TestDetachedSessionDrops(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--history", "3MiB")
	const n = 20 << 20
	file := s.file(t, 12, n)
	truth, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"", "drop", "block"} {
		first := s.raw(t, newID())
		start := start("sh", "-c", s.until("go"+mode)+"; cat "+file+"; exit 6")
		if mode != "" {
			start["on_full"] = mode
		}
		first.open(map[string]any{"start": start, "have": wide})
		first.await("opened")
		first.control(map[string]any{"type": "detach"})
		first.await("detached")
		first.leave()
		s.awaitState(t, "detached")
		s.touch(t, "go"+mode)
		if mode != "block" {
			s.awaitState(t, "ended")
		}
		out, w := pipe(t)
		cmd := s.wsexec("attach", first.id)
		cmd.Stdout, cmd.Stderr = w, w
		c := startClient(t, cmd)
		w.Close()
		got, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		want := int64(n - 3<<20)
		if mode == "block" {
			want = 0
		}
		if missing := checkGaps(t, mode, got, truth); missing != want {
			t.Errorf("%q: %d bytes are missing, want %d", mode, missing, want)
		}
		if r := c.wait(t, patience); r.status != 6 {
			t.Errorf("%q: got %v, want status 6", mode, r)
		}
		s.awaitNoSession(t)
	}
}

// A lost session drops nothing without --on-full drop.
func TestLostSessionWaits(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 20 << 20
	file := s.file(t, 13, n)
	c := s.raw(t, newID())
	c.open(map[string]any{"start": start("sh", "-c", s.until("go")+"; cat "+file), "have": wide})
	c.await("opened")
	c.leave()
	s.awaitState(t, "lost")
	s.touch(t, "go")
	got := newSum()
	cmd := s.wsexec("attach", c.id)
	cmd.Stdout = got
	if r := capture(t, cmd); r.status != 0 || r.stderr != "" || got.String() != sumOf(seededBytes(13, n)) {
		t.Errorf("got %v: %v", got, r)
	}
}

func TestOnFullIsChecked(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.run(t, "--on-full", "wait", "true").wantComplaint(t, 125, `--on-full "wait"`, "block", "drop")
	s.run(t, "--on-full", "block", "echo", "hi").want(t, 0, "hi\n", "")
}
