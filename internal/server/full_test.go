package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// What happens to a start where all places are taken.

// loseClient starts a command whose client is lost at once, and returns its id.
func loseClient(t *testing.T, sock string, st *proto.Start) string {
	t.Helper()
	id := proto.NewID()
	c := dial(t, sock, id)
	mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: st, Have: outputs(0, 0)})
	c.Close()
	eventually(t, func() bool { i := info(t, sock, id); return i != nil && !i.Attached })
	return id
}

// info is what the server says of a session, nil if it does not know it.
func info(t *testing.T, sock, id string) *client.Session {
	t.Helper()
	i, err := at(sock).Session(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// tryRun runs a command and returns the whole text of its failure.
func tryRun(sock string, st *proto.Start) (*client.Result, string, error) {
	r, err := newCmd(at(sock), st).Run(context.Background())
	var ce *client.ConnectError
	text := fmt.Sprint(err)
	if errors.As(err, &ce) && ce.Problem != nil {
		text = ce.Problem.Title + ": " + ce.Problem.Detail
	}
	return r, text, err
}

// A hundred sessions that had lost their clients kept everybody out for five
// minutes, and nothing said what they were. The refusal before the upgrade and
// the one after it had different words.
func TestFullNamesLostSessions(t *testing.T) {
	lasting := func(linger proto.Millis) *proto.Start {
		st := command("sleep", "1000")
		st.Linger = &linger
		return st
	}
	for _, tt := range []struct {
		name string
		cfg  server.Config
		want string
	}{
		{"all", server.Config{MaxSessions: 3, MaxSessionsPerUser: 9}, `^the server is full: all 3 sessions are in use: 2 of 3 have lost their client, and the next of these ends in (4m[0-9]+s|5m0s); the server's --max-sessions raises the bound$`},
		{"of one principal", server.Config{MaxSessions: 9, MaxSessionsPerUser: 3}, `^the server is full: 3 sessions of yours are in use: 2 of 3 have lost their client, and the next of these ends in (4m[0-9]+s|5m0s); the server's --max-sessions-per-user raises the bound$`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, sock, _ := start(t, tt.cfg)
			want := regexp.MustCompile(tt.want)
			upgraded := dial(t, sock, proto.NewID()) // while there is room
			loseClient(t, sock, lasting(3600e3))
			loseClient(t, sock, lasting(300e3))
			mustOpen(t, dial(t, sock, proto.NewID()), &proto.Open{Client: proto.NewID(), Try: 1, Start: lasting(1000)})
			_, text, err := tryRun(sock, command("true"))
			var ce *client.ConnectError
			if !errors.As(err, &ce) || ce.Status != 503 || ce.Problem.Type != proto.ProblemFull || !want.MatchString(text) {
				t.Errorf("before the upgrade: %v: %s\nwant %v", err, text, want)
			}
			m := ask(t, upgraded, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("true")})
			e, ok := m.(*proto.Error)
			if !ok || e.Code != proto.CodeLimit || !want.MatchString(e.Title+": "+e.Detail) {
				t.Errorf("after the upgrade: %+v\nwant %v", m, want)
			}
		})
	}
}

// With EvictLost the place of a session is free once it has lost its client: that of
// the one which has lost it longest, and of no other. The bound is never exceeded.
func TestEvictLost(t *testing.T) {
	const most = 4
	_, sock, _ := start(t, server.Config{MaxSessions: most, EvictLost: true, KillAfter: 300 * time.Millisecond})
	dir := t.TempDir()
	// It does not end by TERM, so that its place is free only after a while, and has
	// written more than anybody will read.
	stubborn := func(n int) *proto.Start {
		file := filepath.Join(dir, fmt.Sprint("ready", n))
		return command("sh", "-c", "trap '' TERM; touch "+file+"; printf output; while :; do yes; done")
	}
	var lost []string
	for n := range 2 {
		lost = append(lost, loseClient(t, sock, stubborn(n)))
		eventually(t, func() bool { _, err := os.Stat(filepath.Join(dir, fmt.Sprint("ready", n))); return err == nil })
	}
	attached := proto.NewID()
	c := dial(t, sock, attached)
	mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("sleep", "1000")})
	detached := proto.NewID()
	d := dial(t, sock, detached)
	mustOpen(t, d, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("sleep", "1000")})
	if err := d.WriteControl(&proto.Detach{}, wait); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return info(t, sock, detached).Detached })
	d.Close()

	live := func() (n int) {
		for _, i := range list(t, sock) {
			if i.State == "running" || i.State == "starting" {
				n++
			}
		}
		return n
	}
	// Two starts, one after the other, and each has a place for as long as it likes.
	for n, id := range lost {
		ready := proto.NewID()
		c := dial(t, sock, ready)
		o := mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("sleep", "1000")})
		if i := info(t, sock, id); o.PID == 0 || i == nil || i.State == "running" {
			t.Errorf("start %d runs, and so does the session in whose place it is: %+v", n, i)
		}
		if l := live(); l > most {
			t.Errorf("%d sessions are live", l)
		}
	}
	for _, id := range []string{attached, detached} {
		if i := info(t, sock, id); i == nil || i.State != "running" {
			t.Errorf("a session that has its client, or was detached, is %+v", i)
		}
	}
	_, text, err := tryRun(sock, command("true"))
	if err == nil || !strings.HasPrefix(text, "the server is full: all 4 sessions are in use; ") {
		t.Errorf("with none that has lost its client: %v: %s", err, text)
	}

	// The late client is told why, and gets the output that is kept.
	late := &client.Cmd{Server: at(sock), ID: lost[1]}
	var out strings.Builder
	late.Stdout = &out
	r, err := late.Run(context.Background())
	if err != nil || r.Exit == nil || r.Exit.Reason != client.ReasonEvicted || !strings.HasPrefix(out.String(), "output") {
		t.Errorf("the late client: %+v %+v, %v, %.20q", r, r.Exit, err, out.String())
	}
}

// Starts of one id that wait for a place together run the command once.
func TestEvictLostStartsOnce(t *testing.T) {
	_, sock, _ := start(t, server.Config{MaxSessions: 1, EvictLost: true, KillAfter: 300 * time.Millisecond})
	runs := filepath.Join(t.TempDir(), "runs")
	ready := filepath.Join(t.TempDir(), "ready")
	loseClient(t, sock, command("sh", "-c", "trap '' TERM; touch "+ready+"; while :; do sleep 0.01; done"))
	eventually(t, func() bool { _, err := os.Stat(ready); return err == nil })
	id, who := proto.NewID(), proto.NewID()
	st := command("sh", "-c", "echo run >>"+runs+"; cat")
	first, second := dial(t, sock, id), dial(t, sock, id)
	if err := first.WriteControl(&proto.Open{Client: who, Try: 1, Start: st}, wait); err != nil {
		t.Fatal(err)
	}
	first.Close()
	o := mustOpen(t, second, &proto.Open{Client: who, Try: 2, Start: st})
	eventually(t, func() bool { b, _ := os.ReadFile(runs); return len(b) > 0 })
	if b, _ := os.ReadFile(runs); string(b) != "run\n" || o.PID == 0 {
		t.Errorf("it ran as often as this says: %q", b)
	}
}

// An evicted session that nobody came back for is remembered as one: its client is
// told why it is gone.
func TestEvictedAndForgotten(t *testing.T) {
	_, sock, _ := start(t, server.Config{MaxSessions: 1, EvictLost: true})
	linger := proto.Millis(3600e3)
	var ids []string
	for range 3 {
		st := command("sleep", "1000")
		st.Linger = &linger
		ids = append(ids, loseClient(t, sock, st))
	}
	// As many that have ended as may run stay. Which of two ends first is open: a start has
	// the place of one whose processes are gone, and whose end may not be told yet.
	var forgotten string
	eventually(t, func() bool {
		i := slices.IndexFunc(ids[:2], func(id string) bool { return info(t, sock, id) == nil })
		if i >= 0 {
			forgotten = ids[i]
		}
		return i >= 0
	})
	_, err := (&client.Cmd{Server: at(sock), ID: forgotten}).Run(context.Background())
	var gone *client.Error
	if !errors.As(err, &gone) || gone.Code != proto.CodeGone || !strings.Contains(gone.Detail, "the server was full") {
		t.Errorf("the client of the forgotten one: %v", err)
	}
}

// A client whose name was taken did not learn whether the session that has it is one of
// a client that is there, or was killed, and until when.
func TestNameIsTaken(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	named := func() *proto.Start {
		st := command("sh", "-c", "trap '' TERM; read line")
		st.Name = "build"
		return st
	}
	refusal := func() string {
		t.Helper()
		_, err := newCmd(at(sock), named()).Run(context.Background())
		var e *client.Error
		if !errors.As(err, &e) || e.Code != proto.CodeConflict || e.Title != "the name is taken" {
			t.Fatalf("%v, want that the name is taken", err)
		}
		return e.Detail
	}
	id, who := proto.NewID(), proto.NewID()
	is := "session " + id + " is called build and "
	c := dial(t, sock, id)
	mustOpen(t, c, &proto.Open{Client: who, Try: 1, Start: named(), Have: outputs(0, 0)})
	if got := refusal(); got != is+"has a client; attach takes it over" {
		t.Errorf("attached: %s", got)
	}
	before := time.Now().Add(proto.DefaultLinger)
	c.Close()
	eventually(t, func() bool { return !info(t, sock, id).Attached })
	got := refusal()
	clock, found := strings.CutPrefix(got, is+"has lost its client; it ends at ")
	clock, ok := strings.CutSuffix(clock, " if none comes back, and attach does")
	// Of the day on which the test runs, or the next one.
	until, err := time.ParseInLocation("2006-01-02 15:04:05 MST", before.Format("2006-01-02 ")+clock, time.Local)
	if late := until.Sub(before); !found || !ok || err != nil || late < -time.Second && late > -23*time.Hour || late > wait {
		t.Errorf("lost: %s (%v), want a time after %v", got, err, before)
	}
	c = dial(t, sock, id)
	mustOpen(t, c, &proto.Open{Client: who, Try: 2, Have: outputs(0, 0)})
	if err := c.WriteControl(&proto.Detach{}, wait); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return info(t, sock, id).Detached })
	c.Close()
	eventually(t, func() bool { return !info(t, sock, id).Attached })
	if got := refusal(); got != is+"is detached; attach comes back to it" {
		t.Errorf("detached: %s", got)
	}
	c = dial(t, sock, id)
	mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1})
	if err := c.WriteControl(&proto.Hangup{}, wait); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return info(t, sock, id).State == "ending" || info(t, sock, id).State == "ended" })
}

// A start whose client had gone went on waiting for a place, and then ran for nobody.
func TestClientGoesWhileItWaits(t *testing.T) {
	for _, over := range []string{"a Unix socket", "TCP", "TLS"} {
		t.Run(over, func(t *testing.T) {
			s := startTLS(t, server.Config{MaxSessions: 1, EvictLost: true, KillAfter: time.Hour}, nil)
			dir := t.TempDir()
			ready, ran := filepath.Join(dir, "ready"), filepath.Join(dir, "ran")
			loseClient(t, s.sock, command("sh", "-c", "trap '' TERM; touch "+ready+"; until [ -e "+dir+"/go ]; do sleep 0.01; done"))
			eventually(t, func() bool { _, err := os.Stat(ready); return err == nil })

			to := at(s.sock)
			switch over {
			case "TCP":
				to = client.Server{URL: "ws://" + s.plain, Credential: client.Fixed(client.Credential{Token: token})}
			case "TLS":
				to = s.at()
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() {
				_, err := newCmd(to, command("touch", ran)).Run(ctx)
				done <- err
			}()
			eventually(t, s.Awaits)
			cancel()
			<-done
			eventually(t, func() bool { return !s.Awaits() })
			eventually(t, func() bool { return strings.Contains(s.log.String(), "the client has gone") })

			os.WriteFile(filepath.Join(dir, "go"), nil, 0o600)
			if r := run(t, at(s.sock), command("true"), nil, nil); r.Exit.Code != 0 {
				t.Errorf("the next start got %+v", r)
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("the command of the client that has gone has run")
			}
		})
	}
}
