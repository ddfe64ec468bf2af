package server_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// A session of a principal that has no token any more ends, however far it is and
// whoever has it, and is forgotten then. Another principal's goes on.
func TestRevoked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.toml")
	add := func(name string) string {
		t.Helper()
		token := access.NewToken()
		if _, err := access.AddToken(file, name, token, time.Now(), 0); err != nil {
			t.Fatal(err)
		}
		return token
	}
	ci, other := add("ci"), add("other")
	tokens, err := access.OpenTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	srv, _, addr := start(t, server.Config{Access: access.New(access.Config{Tokens: tokens}), KillAfter: 100 * time.Millisecond})
	as := func(token string) client.Server {
		return client.Server{URL: "ws://" + addr, Credential: client.Fixed(client.Credential{Token: token})}
	}
	type end struct {
		r   *client.Result
		err error
	}
	// begin starts a command and returns once it has said something.
	begin := func(token, script string) (ends <-chan end, leave context.CancelFunc) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		c, out := newCmd(as(token), command("sh", "-c", script)), make(chan bool, 16)
		c.Stdout, c.Stderr = writerFunc(func(p []byte) (int, error) { out <- true; return len(p), nil }), io.Discard
		done := make(chan end, 1)
		go func() {
			r, err := c.Run(ctx)
			done <- end{r, err}
		}()
		<-out
		return done, cancel
	}
	attached, _ := begin(ci, "echo; exec sleep 1000")
	stubborn, _ := begin(ci, `trap "" TERM; echo; while :; do sleep 0.1; done`)
	lost, leave := begin(ci, "echo; exec sleep 1000")
	leave()
	<-lost
	kept, _ := begin(other, "echo; exec sleep 1000")
	list := func(token string) (all []*client.Session) {
		t.Helper()
		all, err := sessions(as(token))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if n := len(list(ci)); n != 3 {
		t.Fatalf("%d sessions, want 3", n)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go tokens.Watch(ctx, func(error) {})
	go srv.EndRevoked(ctx)
	if _, err := access.RemoveTokens(file, "ci", ""); err != nil {
		t.Fatal(err)
	}
	for what, ends := range map[string]<-chan end{"attached": attached, "stubborn": stubborn} {
		e := <-ends
		var final *client.Error
		if !errors.As(e.err, &final) || final.Code != proto.CodeRevoked || final.Status != 125 {
			t.Errorf("%s: %v, want that access was revoked", what, e.err)
		}
	}
	again := add("ci")
	eventually(t, func() bool { // once the file was read again, and the last command has ended
		all, err := sessions(as(again))
		return err == nil && len(all) == 0
	})
	if n := len(list(other)); n != 1 {
		t.Errorf("the other one has %d sessions, want 1", n)
	}
	select {
	case e := <-kept:
		t.Errorf("the session of another principal has ended: %v", e.err)
	default:
	}
}

// A client whose token was removed between its connection and its open starts nothing,
// also before the server has looked for the revoked.
func TestRevokedBeforeOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.toml")
	ci := access.NewToken()
	if _, err := access.AddToken(file, "ci", ci, time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	tokens, err := access.OpenTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan error, 1)
	go tokens.Watch(t.Context(), func(err error) { changed <- err })
	_, _, addr := start(t, server.Config{Access: access.New(access.Config{Tokens: tokens})})
	h := byHandWith(t, addr, proto.NewID(), ci)
	if _, err := access.RemoveTokens(file, "ci", ""); err != nil {
		t.Fatal(err)
	}
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(t.TempDir(), "ran")
	h.open(proto.NewID(), 1, command("touch", ran), nil)
	if m, _ := h.await("error"); m["code"] != proto.CodeRevoked {
		t.Errorf("%v, want that access was revoked", m)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the command has run")
	}
}

// Nobody is revoked between two changes that are made as one: a principal that is let in
// before them and after them keeps its sessions.
func TestChangeIsOne(t *testing.T) {
	none, err := access.ParsePolicy("p", []byte("[principals.ci]\nuid = 5\n[[allow]]\nwho = ['ci']\ncommands = ['/bin/true']\n"))
	if err != nil {
		t.Fatal(err)
	}
	all := policyFor(t, "")
	srv, sock, _ := start(t, server.Config{Policy: all})
	id := proto.NewID()
	mustOpen(t, dial(t, sock, id), &proto.Open{Client: proto.NewID(), Try: 1, Start: command("sleep", "1000")})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go srv.EndRevoked(ctx)
	srv.Change([]func(){
		func() { srv.SetPolicy(none) },
		func() { time.Sleep(1200 * time.Millisecond) }, // two looks for the revoked
		func() { srv.SetPolicy(all) },
	})
	time.Sleep(600 * time.Millisecond) // one more
	if x := info(t, sock, id); x == nil || x.State != "running" {
		t.Errorf("the session is %+v, want a running one", x)
	}
}

// A token that was seen by others is removed while its principal has another one: the
// connection by it is closed at once, and its session goes on.
func TestRemovedTokenOfSeveral(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.toml")
	seen, other := access.NewToken(), access.NewToken()
	first, err := access.AddToken(file, "ci", seen, time.Now(), 0)
	if err == nil {
		_, err = access.AddToken(file, "ci", other, time.Now(), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := access.OpenTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	srv, _, addr := start(t, server.Config{Access: access.New(access.Config{Tokens: tokens})})
	id, who := proto.NewID(), proto.NewID()
	stays := proto.NewID()
	byOther := byHandWith(t, addr, stays, other)
	byOther.open(proto.NewID(), 1, command("cat"), outputs(0, 0))
	byOther.await("opened")
	h := byHandWith(t, addr, id, seen)
	h.open(who, 1, command("sh", "-c", "read line; echo $line"), outputs(0, 0))
	h.await("opened")
	late := byHandWith(t, addr, proto.NewID(), seen) // and sends its open later

	go tokens.Watch(t.Context(), func(error) {})
	go srv.EndRevoked(t.Context())
	if _, err := access.RemoveTokens(file, "ci", first.ID()); err != nil {
		t.Fatal(err)
	}
	for err == nil { // it is closed
		_, _, err = h.ws.Read(h.ctx)
	}
	if h.ctx.Err() != nil {
		t.Fatal("the connection by the token that was removed stays")
	}
	late.open(proto.NewID(), 1, command("true"), nil)
	late.wantError("an open behind the removal", proto.CodeRevoked)
	h = byHandWith(t, addr, id, other)
	h.open(who, 2, nil, outputs(0, 0))
	h.await("opened")
	h.frame(byte(proto.Data), 0, 0, []byte("on\n")...)
	if _, out := h.await("exit"); out != "on\n" {
		t.Errorf("the session says %q, want what was sent to it", out)
	}
	byOther.frame(byte(proto.Data), 0, 0, []byte("on\n")...)
	if out := byOther.output(3); out != "on\n" {
		t.Errorf("the session by the other token says %q", out)
	}
}
