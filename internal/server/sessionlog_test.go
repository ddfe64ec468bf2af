package server

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/proto"
)

// A client that had left as it wanted to was "connection lost", as was one that
// another had replaced, and nothing said that a client had come back.
func TestSessionLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var b bytes.Buffer
		log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return b.Write(p)
		}), nil))
		x := plainSession(t, Config{Access: owners, MaxKeepalive: time.Hour, Log: log})
		x.times.keepalive = time.Hour
		e := &eventsTest{T: t, rnd: rand.New(rand.NewPCG(0, 0)), x: x, pipes: &pipes{make(chan net.Conn), make(chan struct{})}}
		x.follow(starting, running)
		go x.srv.http.Serve(e.pipes)
		logged := regexp.MustCompile(`msg=("[^"]*"|\w+) session=` + x.id + ` principal=owner( name=\w+)? peer=unix peer_uid=-1 peer_pid=-1(.*)\n`)
		want := func(what string, lines ...string) {
			t.Helper()
			for range 3 { // a client that is told to leave does, and then the next is told
				synctest.Wait()
				for _, v := range e.all {
					e.read(v)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			var got []string
			for _, m := range logged.FindAllStringSubmatch(b.String(), -1) {
				got = append(got, strings.Trim(m[1], `"`)+m[3])
			}
			if strings.Join(got, "\n") != strings.Join(lines, "\n") || strings.Count(b.String(), "\n") != len(lines) {
				t.Errorf("%s: the log has %q, want %q:\n%s", what, got, lines, b.String())
			}
			b.Reset()
		}
		for range 3 {
			e.all = append(e.all, &visitor{id: proto.NewID()})
		}
		first, second, third := e.all[0], e.all[1], e.all[2]

		e.attach(second)
		want("another client comes before the first", "taken over")
		second.drop()
		want("its connection is lost", "lost reason=\"connection closed by the other side\"")
		time.Sleep(3 * time.Second)
		e.attach(second)
		want("it comes back", "reconnected away_ms=3000")
		newer := &visitor{id: second.id, try: second.try}
		e.all = append(e.all, newer)
		e.attach(newer)
		want("it comes back before its loss is noticed", "reconnected away_ms=0")
		e.attach(first)
		want("another one comes", "taken over")
		first.conn.WriteControl(&proto.Detach{}, time.Minute)
		want("it detaches", "detached")
		time.Sleep(5 * time.Second)
		e.attach(third)
		want("a client comes to a detached session", "attached away_ms=5000")
		x.follow(running, ending)
		x.follow(ending, ended)
		third.conn.WriteControl(&proto.Bye{}, time.Minute)
		want("it has everything")

		for _, v := range e.all {
			v.drop()
		}
		close(e.pipes.done)
		x.srv.http.Close()
		synctest.Wait()
	})
}
