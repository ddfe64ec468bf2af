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
	// pageSize is how many sessions are asked for at a time.
	pageSize = 100
	// maxPage bounds one answer in bytes: an older server sends all sessions at once,
	// with commands of up to [proto.MaxOpen] each.
	maxPage = 64 << 20
	// maxPages bounds the answers: a list of pageSize times as many sessions is none
	// that a server has.
	maxPages = 1000
	// maxCursor bounds the place in the list where the next page begins, in bytes.
	maxCursor = 1 << 10
	// maxSession bounds the description of one session, in bytes.
	maxSession = 64 << 10
)

// A Session is one that a server has.
type Session struct {
	ID, Name      string
	State         string // starting, running, ending, ended
	Attached      bool   // a client is connected to it
	Detached      bool   // its last client asked to leave it running
	PID           int
	Args          []string
	ArgsTruncated bool // Args is not all of them
	TTY           bool
	Started       time.Time
	Exit          *Exit // of one that has ended
}

func sessionOf(i *proto.Info) *Session {
	s := &Session{ID: i.ID, Name: i.Name, State: i.State, Attached: i.Attached, Detached: i.Detached, PID: i.PID, ArgsTruncated: i.ArgvTruncated, TTY: i.TTY, Started: i.Started}
	for _, a := range i.Argv {
		s.Args = append(s.Args, string(a))
	}
	if i.Exit != nil {
		s.Exit = exitOf(i.Exit)
	}
	return s
}

// Session describes the session of that id; nil if there is none. Of one with a
// long command only the id is filled in.
func (s Server) Session(ctx context.Context, id string) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
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

// Sessions lists the sessions of a server, page by page; the memory that it takes is
// that of one session. An error ends the list.
func (s Server) Sessions(ctx context.Context) iter.Seq2[*Session, error] {
	return func(yield func(*Session, error) bool) {
		after := ""
		for range maxPages {
			next, goOn, err := s.page(ctx, after, yield)
			switch {
			case !goOn:
				return
			case err == nil && next == "":
				return
			case err == nil && (next == after || len(next) > maxCursor):
				err = errors.New("its pages do not end")
			}
			if err != nil {
				yield(nil, listError(err))
				return
			}
			after = next
		}
		yield(nil, listError(fmt.Errorf("it has more than %d pages", maxPages)))
	}
}

func listError(err error) error {
	var refused *ConnectError
	if errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("the server's list of sessions: %w", err)
}

// page yields the sessions of one page, and returns where the next one begins; goOn is
// false if yield was.
func (s Server) page(ctx context.Context, after string, yield func(*Session, error) bool) (next string, goOn bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	if after != "" {
		query.Set("after", after)
	}
	resp, err := s.get(ctx, sessionsPath+"?"+query.Encode())
	if err != nil {
		return "", true, err
	}
	defer resp.Body.Close()
	body := &io.LimitedReader{R: resp.Body, N: maxPage}
	goOn = true
	next, err = decodePage(json.NewDecoder(body), func(i *proto.Info) error {
		if !proto.ValidID(i.ID) {
			return fmt.Errorf("%.40q is not an id", i.ID) // it becomes part of a URL, and of a command to type
		}
		if goOn = yield(sessionOf(i), nil); !goOn {
			return errStopped
		}
		return nil
	})
	if !goOn {
		return "", false, nil
	}
	if err != nil && body.N == 0 {
		err = fmt.Errorf("it is longer than %d MiB", maxPage>>20)
	}
	return next, true, err
}

var errStopped = errors.New("stopped")

// decodePage decodes {"sessions":[...],"next":"..."}, one session at a time.
func decodePage(d *json.Decoder, session func(*proto.Info) error) (next string, err error) {
	if err := expect(d, json.Delim('{')); err != nil {
		return "", err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", err
		}
		switch name {
		case "sessions":
			if err := expect(d, json.Delim('[')); err != nil {
				return "", err
			}
			for d.More() {
				var i proto.Info
				if err := d.Decode(&i); err != nil {
					return "", err
				}
				if err := session(&i); err != nil {
					return "", err
				}
			}
			err = expect(d, json.Delim(']'))
		case "next":
			err = d.Decode(&next)
		default:
			var other json.RawMessage
			err = d.Decode(&other)
		}
		if err != nil {
			return "", err
		}
	}
	return next, expect(d, json.Delim('}'))
}

func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err == nil && got != want {
		err = fmt.Errorf("%v, where %v was expected", got, want)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
