package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"wsexec/internal/proto"
)

const (
	// pageSize is how many sessions a page may have: the most that a server
	// gives.
	pageSize = 100
	// maxPage bounds one page in bytes. The protocol's are of less than 1 MiB;
	// a newer server may have more to say.
	maxPage = 4 << 20
	// maxPages bounds a list: no server has pageSize times as many sessions.
	maxPages = 1000
	// maxCursor bounds the name of a page in bytes: it becomes part of a URL.
	maxCursor = 1 << 10
	// maxSession bounds what is read about one session, in bytes.
	maxSession = 64 << 10
)

// A Session is one command of a server: one that runs, or whose end the server
// keeps.
type Session struct {
	ID            string
	Name          string // Start.Name
	State         string // starting, running, ending, ended
	Attached      bool   // a client is connected to it
	Detached      bool   // its last client asked to leave it running
	Stopped       bool   // its client is stopped, as a shell's job, and the command with it
	PID           int
	Args          []string
	ArgsTruncated bool // Args is not all of them
	TTY           bool
	User          string // that the command runs as, if its start named one
	Started       time.Time
	Exit          *Exit // of one that has ended
}

func sessionOf(i *proto.Info) *Session {
	s := &Session{ID: i.ID, Name: i.Name, State: i.State, Attached: i.Attached, Detached: i.Detached, Stopped: i.Stopped, PID: i.PID, ArgsTruncated: i.ArgvTruncated, TTY: i.TTY, User: i.User, Started: i.Started}
	for _, a := range i.Argv {
		s.Args = append(s.Args, string(a))
	}
	if i.Exit != nil {
		s.Exit = exitOf(i.Exit)
	}
	return s
}

// Session returns the session of that id, nil if there is none. Where the
// answer is too long to be read, only ID is filled in.
func (s Server) Session(ctx context.Context, id string) (found *Session, err error) {
	err = s.Wait.Out(ctx, func() error {
		found, err = s.session(ctx, id)
		return err
	})
	return found, err
}

func (s Server) session(ctx context.Context, id string) (*Session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, noAnswerWithin(connectTimeout))
	defer cancel()
	resp, err := s.get(ctx, sessionsPath+"/"+id)
	var refused *ConnectError
	if errors.As(err, &refused) && refused.Problem != nil && (refused.Status == http.StatusNotFound || refused.Status == http.StatusUpgradeRequired) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	info := new(proto.Info)
	if json.NewDecoder(io.LimitReader(resp.Body, maxSession)).Decode(info) != nil || info.ID != id {
		info = &proto.Info{ID: id}
	}
	return sessionOf(info), nil
}

// Sessions lists the sessions of a server, oldest first, and asks for them a
// page at a time. An error ends the list.
func (s Server) Sessions(ctx context.Context) iter.Seq2[*Session, error] {
	return func(yield func(*Session, error) bool) {
		after := ""
		for range maxPages {
			var page []*Session
			var next string
			err := s.Wait.Out(ctx, func() (err error) {
				page, next, err = s.page(ctx, after)
				return err
			})
			if err == nil && next != "" && (next == after || len(next) > maxCursor) {
				err = errors.New("its pages do not end")
			}
			if err != nil {
				yield(nil, listError(err))
				return
			}
			for _, session := range page {
				if !yield(session, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			after = next
		}
		yield(nil, listError(fmt.Errorf("it has more than %d pages", maxPages)))
	}
}

func listError(err error) error {
	var refused *ConnectError
	var none *CredentialError
	if errors.As(err, &refused) || errors.As(err, &none) {
		return err
	}
	return fmt.Errorf("the server's list of sessions: %w", err)
}

// page gets one page of the list and the place where the next one begins, "" at
// the end.
func (s Server) page(ctx context.Context, after string) (sessions []*Session, next string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, noAnswerWithin(connectTimeout))
	defer cancel()
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	if after != "" {
		query.Set("after", after)
	}
	resp, err := s.get(ctx, sessionsPath+"?"+query.Encode())
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body := &io.LimitedReader{R: resp.Body, N: maxPage}
	var page struct {
		Sessions []proto.Info
		Next     string
	}
	err = json.NewDecoder(body).Decode(&page)
	if err != nil && body.N == 0 {
		err = fmt.Errorf("a page is longer than %d MiB", maxPage>>20)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	for _, i := range page.Sessions {
		if err == nil && !proto.ValidID(i.ID) {
			err = fmt.Errorf("%.40q is not an id", i.ID) // an id becomes part of a URL, and of a command to type
		}
		sessions = append(sessions, sessionOf(&i))
	}
	return sessions, page.Next, err
}
