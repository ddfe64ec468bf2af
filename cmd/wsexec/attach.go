package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
		Usage:           "come back to a session; takes it over from whoever has it",
		UsageText:       "wsexec attach [flags] ID",
		Description:     attachHelp,
		HideHelpCommand: true,
		OnUsageError:    usage,
		Flags: append(named(
			&cli.BoolFlag{Name: "no-stdin", Aliases: []string{"n"}, Usage: "leave the session's stdin as it is", DisableDefaultText: true},
		), connectionFlags()...),
		Action: func(c *cli.Context) error {
			*status = newSession(c).perform(c, func(s *session) (*client.Cmd, error) { return s.attachment(c) })
			return nil
		},
	}
}

// attachment makes the Cmd of an attach.
func (s *session) attachment(c *cli.Context) (*client.Cmd, error) {
	if c.Args().Len() != 1 || c.Args().First() == "" {
		return nil, usageError{err: errors.New("attach takes one session: its id, a unique prefix of it, or its name")}
	}
	srv, err := findServer(c)
	if err != nil {
		return nil, err
	}
	id, name, err := findSession(context.Background(), srv, c.Args().First())
	if err != nil {
		return nil, err
	}
	s.attached, s.keepStdin = cmp.Or(name, id), c.Bool("no-stdin")
	return &client.Cmd{Server: srv, ID: id}, nil
}

// findSession finds the session that a word means: an exact name, an id, or a
// unique prefix of one. Not every session has a name.
//
// A whole id is asked for as such, which takes no list. So the id of a session goes
// before a name of 26 letters that is the same.
func findSession(ctx context.Context, srv client.Server, word string) (id, name string, err error) {
	if proto.ValidID(word) {
		if i, err := srv.Session(ctx, word); err != nil {
			return "", "", err
		} else if i != nil {
			return i.ID, i.Name, nil
		}
	}
	var found *client.Session
	n := 0
	for i, err := range srv.Sessions(ctx) {
		switch {
		case err != nil:
			return "", "", err
		case i.Name == word && i.State != "ended":
			return i.ID, i.Name, nil
		case i.Name == word || strings.HasPrefix(i.ID, word):
			found = i
			n++
		}
	}
	switch {
	case n == 1:
		return found.ID, found.Name, nil
	case n > 1:
		return "", "", fmt.Errorf("%q is the beginning of %d sessions; give more of the id", word, n)
	case proto.ValidID(word):
		return word, "", nil // the server knows whether there ever was one
	}
	return "", "", fmt.Errorf("no session %q on this server", word)
}

// A program that has painted the screen paints it again only when its size changes. So
// a terminal that takes a session over is a row smaller at first, for redrawDelay: the
// program may not see the smaller size if it is gone too soon.
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
