package main

import (
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/stdio"
)

// Values of --with-parent.
const (
	withParentAuto = "auto"
	withParentOn   = "on"
	withParentOff  = "off"
)

// hangupTimeout bounds how long a client without a parent tries to reach the server
// in order to hang up.
const hangupTimeout = 10 * time.Second

// setParent takes --with-parent. A CI that cancels a job often ends the shell alone,
// and kills what is left a moment later: by then the command has to be told.
func (s *session) setParent(c *cli.Context) (err error) {
	mode := c.String("with-parent")
	switch mode {
	case withParentAuto, withParentOn, withParentOff:
	default:
		return &usageError{err: badWithParent(mode)}
	}
	if !endsWithParent(mode, os.Getenv("CI"), stdio.IsTerminal(0)) {
		return nil
	}
	if s.parent, err = stdio.NewParent(); err != nil && mode == withParentOn {
		return &client.LocalError{Op: opWithParent, Err: err}
	}
	return nil
}

// endsWithParent reports whether the end of the parent counts. terminal is whether
// stdin is one.
func endsWithParent(mode, ci string, terminal bool) bool {
	return mode == withParentOn || mode == withParentAuto && ci != "" && !terminal
}

// orphaned hangs up: the process that started wsexec has ended. Where there is no
// connection the server learns it with the next one.
func (s *session) orphaned() {
	s.parentEnded.Store(true)
	stdio.Hurry()
	s.say(parentEnded())
	if s.cmd.Connected() {
		s.cmd.Hangup()
	} else {
		s.cmd.HangupWithin(hangupTimeout)
	}
}
