package main

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/stdio"
)

func attachCommand(status *int) *cli.Command {
	return &cli.Command{
		Name:            "attach",
		Usage:           attachUsage,
		UsageText:       attachSyntax,
		Description:     attachDetails,
		HideHelpCommand: true,
		OnUsageError:    badLine("attach"),
		Flags: flagsOf("attach", append([]cli.Flag{
			&cli.BoolFlag{Name: "no-stdin", Aliases: []string{"n"}},
		}, sessionFlags()...)...),
		Action: func(c *cli.Context) error {
			s := newSession(c)
			*status = s.perform(c, func() (*client.Cmd, error) { return s.attachment(c) })
			return nil
		},
	}
}

// attachment makes the Cmd of an attach.
func (s *session) attachment(c *cli.Context) (*client.Cmd, error) {
	if c.Args().Len() != 1 || c.Args().First() == "" {
		return nil, &usageError{err: errOneSession}
	}
	srv, err := s.where.find()
	if err != nil {
		return nil, err
	}
	found, err := findSession(context.Background(), srv, c.Args().First())
	if err != nil {
		return nil, err
	}
	s.name, s.attached = found.Name, cmp.Or(found.Name, found.ID)
	if found.TTY {
		s.awaitForeground()
	}
	return &client.Cmd{Server: srv, ID: found.ID}, nil
}

// findSession finds the session that is meant by a name, an id, or a unique prefix
// of one. Not every session has a name. Of a session that the server does not list
// there is the id alone.
//
// A whole id is asked for without a list. So the id of a session goes before a name
// of 26 letters that is the same.
func findSession(ctx context.Context, srv client.Server, wanted string) (*client.Session, error) {
	if proto.ValidID(wanted) {
		if i, err := srv.Session(ctx, wanted); err != nil || i != nil {
			return i, err
		}
	}
	var found *client.Session
	n := 0
	for i, err := range srv.Sessions(ctx) {
		switch {
		case err != nil:
			return nil, err
		case i.Name == wanted && i.State != "ended":
			return i, nil
		case i.Name == wanted || strings.HasPrefix(i.ID, wanted):
			found = i
			n++
		}
	}
	switch {
	case n == 1:
		return found, nil
	case n > 1:
		return nil, ambiguous(wanted, n)
	case proto.ValidID(wanted):
		return &client.Session{ID: wanted}, nil // the server knows whether there ever was one
	}
	return nil, noSession(wanted)
}

// redrawDelay is how long a terminal that takes a session over is a row smaller
// than it is: a program paints the screen again only when its size changes, and may
// not see a size that is gone too soon.
const redrawDelay = 100 * time.Millisecond

// smaller is a size with another number of rows.
func smaller(s stdio.Winsize) stdio.Winsize {
	if s.Rows > 1 {
		s.Rows--
	} else {
		s.Rows++
	}
	return s
}
