package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/link"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// One principal cannot have all the sessions that there are, and gets its place
// back on every way that one ends.
func TestSessionsPerUser(t *testing.T) {
	_, sock, _ := start(t, server.Config{MaxSessionsPerUser: 1})
	c := dial(t, sock, proto.NewID())
	late := dial(t, sock, proto.NewID()) // upgraded while there was room
	who := proto.NewID()
	mustOpen(t, c, &proto.Open{Client: who, Try: 1, Start: command("cat"), Have: map[uint8]proto.Position{1: {Limit: 100}, 2: {Limit: 100}}})
	_, err := client.New(at(sock), command("true")).Run(context.Background())
	var ce *client.ConnectError
	if !errors.As(err, &ce) || ce.Status != 503 || ce.Problem == nil || !strings.Contains(ce.Problem.Detail, "--max-sessions-per-user") {
		t.Errorf("the second session: %v, want 503 with --max-sessions-per-user", err)
	}
	m := ask(t, late, &proto.Open{Client: who, Try: 1, Start: command("true")})
	if e, ok := m.(*proto.Error); !ok || e.Code != proto.CodeLimit || !strings.Contains(e.Detail, "--max-sessions-per-user") {
		t.Errorf("an open that came too late: %+v, want limit", m)
	}
	c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 0})
	eventually(t, func() bool { l := list(t, sock); return len(l) == 1 && l[0].State == "ended" })
	for range 3 {
		run(t, at(sock), command("true"), nil, io.Discard)
		var word *proto.Error
		if _, err := client.New(at(sock), command("/does/not/exist")).Run(context.Background()); !errors.As(err, &word) || word.Status != 127 {
			t.Errorf("a command that is not there: %v", err)
		}
	}
}

// Connections that were upgraded and say nothing are bounded, and kept everybody out
// for as long: where one more comes the oldest goes. Each way that one of them ends
// gives its place back.
func TestConnectionsWithoutOpen(t *testing.T) {
	for _, end := range []struct {
		name string
		f    func(t *testing.T, c *link.Conn)
	}{
		{"gone", func(_ *testing.T, c *link.Conn) { c.Close() }},
		{"protocol error", func(t *testing.T, c *link.Conn) {
			if err := c.WriteFrame(proto.Frame{Kind: proto.Stop}); err != nil {
				t.Fatal(err)
			}
		}},
		{"another message", func(t *testing.T, c *link.Conn) { c.WriteControl(&proto.Bye{}, wait) }},
		{"too large", func(t *testing.T, c *link.Conn) {
			m := ask(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("true", strings.Repeat("x", 90<<10))})
			if e, ok := m.(*proto.Error); !ok || e.Code != proto.CodeTooLarge || e.Status != 126 || !strings.Contains(e.Detail, "--max-command") {
				t.Errorf("%+v, want too-large with --max-command", m)
			}
		}},
		{"unknown session", func(t *testing.T, c *link.Conn) {
			if e, ok := ask(t, c, &proto.Open{Client: proto.NewID(), Try: 1}).(*proto.Error); !ok || e.Code != proto.CodeNotFound {
				t.Errorf("%+v", e)
			}
		}},
		{"served", func(t *testing.T, c *link.Conn) {
			mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("true")})
		}},
		{"silent", func(t *testing.T, c *link.Conn) {
			m, err := c.ReadControl(proto.MaxControl, wait)
			if e, ok := m.(*proto.Error); !ok || e.Code != proto.CodeLimit || !strings.Contains(e.Detail, "--open-timeout") {
				t.Errorf("%+v, %v, want limit with --open-timeout", m, err)
			}
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			cfg := server.Config{MaxConnections: 2, MaxCommand: 100 << 10}
			if end.name == "silent" {
				cfg.OpenTimeout = 2 * time.Second
			}
			srv, sock, _ := start(t, cfg)
			first, c := dial(t, sock, proto.NewID()), dial(t, sock, proto.NewID())
			left := 1
			if end.name == "silent" {
				left = 0
			}
			eventually(t, func() bool { return srv.Unopened() == 2 })
			end.f(t, c)
			eventually(t, func() bool { return srv.Unopened() == left })
			second, third := dial(t, sock, proto.NewID()), dial(t, sock, proto.NewID())
			if end.name != "silent" {
				if m, err := first.ReadControl(proto.MaxControl, wait); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the oldest connection is still open: %+v, %v", m, err)
				}
			}
			for _, c := range []*link.Conn{second, third} {
				mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("true")})
			}
		})
	}
}

// Handshakes that come byte by byte, and never to an end, shut nobody out: the
// oldest goes, and is told why.
func TestHandshakesThatDrip(t *testing.T) {
	_, sock, addr := start(t, server.Config{MaxConnections: 4})
	tcp := client.Server{URL: "ws://" + addr, Token: token}
	connect := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	// One that has proved who it is, by a request before, is none of them.
	known := connect()
	ask := func() int {
		if _, err := io.WriteString(known, "GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+token+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(known), nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	if s := ask(); s != 200 {
		t.Fatalf("status %d", s)
	}
	var drips []net.Conn
	for i := range 20 {
		c := connect()
		if i%2 == 0 {
			io.WriteString(c, "GET /v1/sess")
		} else { // refused, and then silent
			io.WriteString(c, "GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n")
			if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 401 {
				t.Fatalf("a wrong token: %+v, %v", resp, err)
			}
		}
		drips = append(drips, c)
		run(t, tcp, command("true"), nil, io.Discard)
		run(t, at(sock), command("true"), nil, io.Discard)
	}
	for i, c := range drips[:20-4] {
		c.SetReadDeadline(time.Now().Add(wait))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("connection %d of those that had to go: %v", i, err)
		}
		var p proto.Problem
		json.NewDecoder(resp.Body).Decode(&p)
		if resp.StatusCode != 503 || !strings.Contains(p.Detail, "--max-connections") {
			t.Errorf("connection %d was told %d, %+v", i, resp.StatusCode, p)
		}
	}
	if s := ask(); s != 200 {
		t.Errorf("status %d", s)
	}
}

// A header that is too large is refused as such.
func TestHeaderTooLarge(t *testing.T) {
	_, _, addr := start(t, server.Config{MaxHeader: 8 << 10})
	for n, want := range map[int]int{1 << 10: 401, 20 << 10: 431} {
		req, err := http.NewRequest("GET", "http://"+addr+"/v1/sessions", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X", strings.Repeat("x", n))
		resp, err := new(http.Transport).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("with a header of %d bytes: %d, want %d", n, resp.StatusCode, want)
		}
	}
}
