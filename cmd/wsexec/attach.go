package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/proto"
)

func attachCommand(status *int) *cli.Command {
	return &cli.Command{
		Name:            "attach",
		Usage:           "come back to a session; takes it over from whoever has it",
		UsageText:       "wsexec attach [flags] ID",
		Description:     attachHelp,
		HideHelpCommand: true,
		OnUsageError:    usage,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "no-stdin", Aliases: []string{"n"}, Usage: "leave the session's stdin as it is", DisableDefaultText: true},
		}, connectionFlags()...),
		Action: func(c *cli.Context) error {
			*status = newSession(c).perform(c, func(s *session) (*client.Cmd, error) { return s.attachment(c) })
			return nil
		},
	}
}

// attachment makes the Cmd of an attach.
func (s *session) attachment(c *cli.Context) (*client.Cmd, error) {
	if c.Args().Len() != 1 || c.Args().First() == "" {
		return nil, usageError{errors.New("attach takes one session: its id, a unique prefix of it, or its name")}
	}
	srv, err := findServer(c)
	if err != nil {
		return nil, err
	}
	id, err := findSession(srv, c.Args().First())
	if err != nil {
		return nil, err
	}
	s.keepStdin = c.Bool("no-stdin")
	return &client.Cmd{Server: srv, ID: id}, nil
}

// findSession finds the id of the session that a word means: an exact name, an
// id, or a unique prefix of one.
func findSession(srv client.Server, word string) (string, error) {
	list, err := client.Sessions(context.Background(), srv)
	if err != nil {
		return "", err
	}
	var found []string
	for _, i := range list {
		if i.Name == word && i.State != "ended" {
			return i.ID, nil
		}
		if i.Name == word || strings.HasPrefix(i.ID, word) {
			found = append(found, i.ID)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("%q is the beginning of %d sessions; give more of the id", word, len(found))
	case proto.ValidID(word):
		return word, nil // the server knows whether there ever was one
	}
	return "", fmt.Errorf("no session %q on this server", word)
}
