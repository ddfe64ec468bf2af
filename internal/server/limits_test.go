package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/peer"
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
	_, err := newCmd(at(sock), command("true")).Run(context.Background())
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
		var refusal *client.Error
		if _, err := newCmd(at(sock), command("/does/not/exist")).Run(context.Background()); !errors.As(err, &refusal) || refusal.Status != 127 {
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
		f    func(t *testing.T, c *peer.Conn)
	}{
		{"gone", func(_ *testing.T, c *peer.Conn) { c.Close() }},
		{"protocol error", func(t *testing.T, c *peer.Conn) {
			if err := c.WriteFrame(proto.Frame{Kind: proto.Stop}); err != nil {
				t.Fatal(err)
			}
		}},
		{"another message", func(t *testing.T, c *peer.Conn) { c.WriteControl(&proto.Bye{}, wait) }},
		{"too large", func(t *testing.T, c *peer.Conn) {
			m := ask(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("true", strings.Repeat("x", 90<<10))})
			if e, ok := m.(*proto.Error); !ok || e.Code != proto.CodeTooLarge || e.Status != 126 || !strings.Contains(e.Detail, "--max-command") {
				t.Errorf("%+v, want too-large with --max-command", m)
			}
		}},
		{"unknown session", func(t *testing.T, c *peer.Conn) {
			if e, ok := ask(t, c, &proto.Open{Client: proto.NewID(), Try: 1}).(*proto.Error); !ok || e.Code != proto.CodeNotFound {
				t.Errorf("%+v", e)
			}
		}},
		{"served", func(t *testing.T, c *peer.Conn) {
			mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("true")})
		}},
		{"silent", func(t *testing.T, c *peer.Conn) {
			m, err := c.ReadControl(wait)
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
				if m, err := first.ReadControl(wait); err == nil || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the oldest connection is still open: %+v, %v", m, err)
				}
			}
			for _, c := range []*peer.Conn{second, third} {
				mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("true")})
			}
		})
	}
}

// Handshakes that come byte by byte, and never to an end, shut nobody out: the
// oldest goes, and is told why.
func TestHandshakesThatDrip(t *testing.T) {
	_, sock, addr := start(t, server.Config{MaxConnections: 4})
	tcp := client.Server{URL: "ws://" + addr, Credential: client.Fixed(client.Credential{Token: token})}
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

// Connections without authentication from one address pushed out those from all
// others, the oldest first.
func TestFloodFromOneAddress(t *testing.T) {
	_, _, addr := start(t, server.Config{MaxConnections: 8})
	honest, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	honest.SetDeadline(time.Now().Add(wait))
	req := "GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\nConnection: close\r\n\r\n"
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for i := range req { // a byte for each 10 of the flood
		if _, err := io.WriteString(honest, req[i:i+1]); err != nil {
			t.Fatalf("after %d bytes: %v", i, err)
		}
		for range 10 {
			c, err := from.Dial("tcp", addr)
			if err != nil {
				t.Skip("no second address of loopback: ", err)
			}
			defer c.Close()
			io.WriteString(c, "GET /")
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(honest), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("the one from another address got %v, %v", resp, err)
	}
}

// A list had all of every command, of all sessions at once: 96 MB for 40 sessions.
// Pages of it are small, each session is in one of them, also while others come and
// go.
func TestListPages(t *testing.T) {
	_, sock, addr := start(t, server.Config{MaxSessions: 500})
	var clients []*peer.Conn
	begin := func(argv ...string) string {
		id := proto.NewID()
		c := dial(t, sock, id)
		st := command(append([]string{"cat"}, argv...)...)
		mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: st})
		clients = append(clients, c)
		return id
	}
	want := map[string]bool{}
	for i := range 120 {
		args := []string{}
		switch i % 4 {
		case 1:
			args = []string{strings.Repeat("x", 100_000)}
		case 2:
			args = make([]string, 5000)
		case 3:
			args = strings.Split(strings.Repeat("y ", 3000), " ")
		}
		want[begin(args...)] = true
	}
	get := func(query string) (status int, body []byte) {
		req, _ := http.NewRequest("GET", "http://"+addr+"/v1/sessions"+query, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := new(http.Transport).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	for _, query := range []string{"", "?limit=1", "?limit=7", "?limit=100"} {
		seen := map[string]bool{}
		pages, last := 0, ""
		for after := ""; ; pages++ {
			q := query
			if after != "" {
				q = "?after=" + after
				if query != "" {
					q = query + "&after=" + after
				}
			}
			status, body := get(q)
			var page struct {
				Sessions []proto.Info
				Next     *string
			}
			if err := json.Unmarshal(body, &page); err != nil || status != 200 || len(body) > 1<<20 {
				t.Fatalf("%s: %d, %d bytes, %v", q, status, len(body), err)
			}
			for _, i := range page.Sessions {
				if seen[i.ID] {
					t.Errorf("%s: session %s comes twice", q, i.ID)
				}
				seen[i.ID] = true
				last = i.ID
			}
			if page.Next == nil {
				break
			}
			after = *page.Next
			if pages == 2 { // one that was listed goes, one comes
				clients[0].Close()
				want[begin()] = true
			}
		}
		for id := range want {
			if !seen[id] {
				t.Errorf("%s: session %s is missing", query, id)
			}
		}
		if !want[last] || query == "?limit=1" && pages < len(want)-1 {
			t.Errorf("%s: %d pages, the last session is %s", query, pages+1, last)
		}
	}
	for _, q := range []string{"?limit=0", "?limit=101", "?limit=x", "?limit=1&limit=2", "?after=x", "?after=", "?after=aaaaaaaa-1", "?after=x&after=y"} {
		if status, body := get(q); status != 400 {
			t.Errorf("%s: %d %s", q, status, body)
		}
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
