package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// site calls ask with a server that answers by answer, with JSON unless answer says
// otherwise, in a bubble.
func site(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request), ask func(s Server, f *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, http: func(n int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			answer(n, w, r)
			return true
		}}
		ask(Server{URL: "ws://test", Dial: f.Dial}, f)
		f.wg.Wait()
	})
}

// all are the sessions that a server lists.
func all(s Server) (list []*Session, err error) {
	for i, err := range s.Sessions(context.Background()) {
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

func refuse(w http.ResponseWriter, status int, typ string) {
	w.Header().Set("Content-Type", proto.ProblemType)
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":%q,"title":"refused by the test","status":%d}`, typ, status)
}

// A list comes in pages, and ends.
func TestSessionsInPages(t *testing.T) {
	var ids []string
	for range 5 {
		ids = append(ids, proto.NewID())
	}
	info := func(id string) string { return `{"id":"` + id + `","state":"running","argv":["dHJ1ZQ=="]}` }
	for _, tt := range []struct {
		name  string
		pages map[string]string // by cursor
		want  int               // sessions
		err   string
	}{
		{"none", map[string]string{"": `{"sessions":[]}`}, 0, ""},
		{"one page", map[string]string{"": `{"sessions":[` + info(ids[0]) + "," + info(ids[1]) + `]}`}, 2, ""},
		{"three pages", map[string]string{
			"":     `{"sessions":[` + info(ids[0]) + "," + info(ids[1]) + `],"next":"a_B-"}`,
			"a_B-": `{"next":"&c=?","more":{"x":[1,2,{}]},"sessions":[` + info(ids[2]) + `]}`,
			"&c=?": `{"sessions":[` + info(ids[3]) + "," + info(ids[4]) + `],"next":""}`,
		}, 5, ""},
		{"a page that is the next one", map[string]string{"": `{"sessions":[],"next":"x"}`, "x": `{"sessions":[` + info(ids[0]) + `],"next":"x"}`}, 0, "do not end"},
		{"a long cursor", map[string]string{"": `{"sessions":[],"next":"` + strings.Repeat("x", 2*maxCursor) + `"}`}, 0, "do not end"},
		{"half a list", map[string]string{"": `{"sessions":[` + info(ids[0])}, 0, "unexpected EOF"},
		{"no list", map[string]string{"": `[]`}, 0, "cannot unmarshal"},
		{"no id", map[string]string{"": `{"sessions":[{"id":"../x"}]}`}, 0, "is not an id"},
		{"a page without end", map[string]string{"": `{"sessions":[` + strings.Repeat(" ", maxPage)}, 0, "longer than"},
		{"a list that is none", map[string]string{"": `{"sessions":{}}`}, 0, "cannot unmarshal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			site(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/sessions" || r.URL.Query().Get("limit") != "100" {
					t.Errorf("asked for %s", r.URL)
				}
				io.WriteString(w, tt.pages[r.URL.Query().Get("after")])
			}, func(s Server, f *fake) {
				list, err := all(s)
				if len(list) != tt.want || (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%d sessions, %v; want %d, %q", len(list), err, tt.want, tt.err)
				}
				for i := range list {
					if list[i].ID != ids[i] {
						t.Errorf("session %d is %s, want %s", i, list[i].ID, ids[i])
					}
				}
			})
		})
	}
	// Another program's page was "invalid character '<'".
	t.Run("a page of another program", func(t *testing.T) {
		site(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "<html>")
		}, func(s Server, f *fake) {
			_, err := all(s)
			var other *ConnectError
			if !errors.As(err, &other) || other.Status != 200 || other.Problem != nil || other.MediaType != "text/html" {
				t.Errorf("%v", err)
			}
		})
	})
	// "context deadline exceeded", said attach.
	t.Run("no answer", func(t *testing.T) {
		for name, begin := range map[string]string{"nothing": "", "half": `{"sessions":[`} {
			site(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				if begin != "" {
					io.WriteString(w, begin)
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
			}, func(s Server, f *fake) {
				_, err := all(s)
				if err == nil || !strings.HasSuffix(err.Error(), "no answer within 10s") || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v, want no answer within 10s", name, err)
				}
				if begin == "" {
					if _, err := s.Session(context.Background(), ids[0]); err == nil || err.Error() != "no answer within 10s" {
						t.Errorf("%v, want no answer within 10s", err)
					}
				}
			})
		}
	})
	t.Run("without end", func(t *testing.T) {
		site(t, func(n int, w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"sessions":[],"next":"%d"}`, n) }, func(s Server, f *fake) {
			if _, err := all(s); err == nil || f.conns != maxPages {
				t.Errorf("%v after %d pages", err, f.conns)
			}
		})
	})
	t.Run("what is not wanted is not asked for", func(t *testing.T) {
		site(t, func(n int, w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"sessions":[%s],"next":"%d"}`, info(ids[n]), n)
		}, func(s Server, f *fake) {
			for i, err := range s.Sessions(context.Background()) {
				if err != nil || i.ID == ids[2] {
					break
				}
			}
			if f.conns != 2 {
				t.Errorf("%d pages were asked for, want 2", f.conns)
			}
		})
	})
	t.Run("that drips", func(t *testing.T) {
		site(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"sessions":[`)
			for {
				if _, err := io.WriteString(w, " "); err != nil || http.NewResponseController(w).Flush() != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, func(s Server, _ *fake) {
			began := time.Now()
			if _, err := all(s); err == nil || time.Since(began) != connectTimeout {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
	})
}

// A session is found by its id without the list of all.
func TestSession(t *testing.T) {
	id := proto.NewID()
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   *Session
		err    bool
	}{
		{"there is", func(w http.ResponseWriter) {
			fmt.Fprintf(w, `{"id":%q,"name":"build","state":"running","argv":[]}`, id)
		}, &Session{ID: id, Name: "build"}, false},
		{"one with a long command", func(w http.ResponseWriter) {
			fmt.Fprintf(w, `{"id":%q,"name":"build","argv":[%q]}`, id, strings.Repeat("A", 4<<20))
		}, &Session{ID: id}, false},
		{"there is none", func(w http.ResponseWriter) { refuse(w, 426, "about:blank") }, nil, false},
		{"there is none, to a newer server", func(w http.ResponseWriter) { refuse(w, 404, "about:blank") }, nil, false},
		{"something else answers", func(w http.ResponseWriter) { http.NotFound(w, nil) }, nil, true},
		{"an upgrade that was not asked for", func(w http.ResponseWriter) { w.WriteHeader(http.StatusSwitchingProtocols) }, nil, true},
		{"a wrong token", func(w http.ResponseWriter) { refuse(w, 401, "about:blank") }, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			site(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/sessions/"+id {
					t.Errorf("asked for %s", r.URL)
				}
				tt.answer(w)
			}, func(s Server, _ *fake) {
				got, err := s.Session(context.Background(), id)
				if err != nil {
					_ = err.Error() // as a ConnectError without a reason cannot
				}
				if (err != nil) != tt.err || (got == nil) != (tt.want == nil) || got != nil && (got.ID != tt.want.ID || got.Name != tt.want.Name) {
					t.Errorf("%+v, %v; want %+v", got, err, tt.want)
				}
			})
		})
	}
}

// A client gave up when the server had too many connections for a moment,
// though it had asked for nothing yet.
func TestBusyServer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		typ   string
		busy  int // connections that are refused
		conns int
		most  time.Duration
	}{
		{"for a moment", proto.ProblemBusy, 3, 4, busyTime},
		{"for long", proto.ProblemBusy, 100, busyTries, busyTime},
		{"full of sessions", "about:blank", 100, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := func(what string, f *fake, took time.Duration, err error) {
				t.Helper()
				var refused *ConnectError
				wantErr := tt.busy > tt.conns
				if errors.As(err, &refused) != wantErr || f.conns != tt.conns || took > tt.most || wantErr && tt.most > 0 && took < busyDelay {
					t.Errorf("%s: %v after %v and %d connections, want %d", what, err, took, f.conns, tt.conns)
				}
				for i := 1; i < len(f.dials); i++ {
					most := busyDelay << (i - 1)
					if d := f.dials[i].Sub(f.dials[i-1]); d < most/2 || d > most {
						t.Errorf("%s: pause %d was %v, want %v to %v", what, i, d, most/2, most)
					}
				}
			}
			busy := func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if n <= tt.busy {
					refuse(w, 503, tt.typ)
				}
				return n <= tt.busy
			}
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, http: busy}
				f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
					c.Fail(&proto.Error{Code: proto.CodeBadDirectory, Title: "no", Status: 125})
				}
				_, took, err := f.run(f.cmd())
				check("run", f, took, err)
			})
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t}
				f.http = func(n int, w http.ResponseWriter, r *http.Request) bool {
					if !busy(n, w, r) {
						w.Header().Set("Content-Type", "application/json")
						io.WriteString(w, `{"sessions":[]}`)
					}
					return true
				}
				began := time.Now()
				_, err := all(Server{URL: "ws://test", Dial: f.Dial})
				check("list", f, time.Since(began), err)
				f.wg.Wait()
			})
		})
	}
}
