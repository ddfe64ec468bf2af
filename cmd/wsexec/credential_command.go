package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/cmdline"
	"wsexec/internal/stdio"
	"wsexec/internal/trust"
)

// tokenCommandTime bounds the run of a command that prints a token.
const tokenCommandTime = 10 * time.Second

// A tokenCommand is a command that prints a token. It runs here, for each connection.
type tokenCommand struct {
	words []string
	op    string        // of the error: what has asked for it
	limit time.Duration // of one run
}

// commandCredential is the token that a command line prints.
func (w where) commandCredential(s setting) (credential, error) {
	words, err := splitWords(s.value)
	if err != nil {
		return nil, &usageError{err: badTokenCommand(s.from, err)}
	}
	trust.Undumpable()
	c := tokenCommand{words, s.from, tokenCommandTime}
	return c.credential(cmdline.Shown(words[0]) + " (" + s.from + ")"), nil
}

func (c tokenCommand) credential(from string) credential {
	return func(ctx context.Context) (client.Credential, error) {
		token, err := c.run(ctx)
		if err != nil {
			err = &client.LocalError{Op: c.op, Err: commandFailed(c.words[0], err)}
		}
		return shown(token, from, err)
	}
}

// run runs the command, and returns the token. Its stdin is empty, each line of its
// stderr is said, and its whole stdout is the token: as with a shell's $(), a process
// that it leaves behind must not hold it. When the limit is over, or ctx ends, its
// process group is killed.
func (c tokenCommand) run(ctx context.Context) (token string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, tooSlow(c.limit))
	defer cancel()
	path, err := exec.LookPath(c.words[0])
	if err != nil {
		return "", err
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer stdin.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer out.Close()
	messages, stderr, err := os.Pipe()
	if err != nil {
		stdout.Close()
		return "", err
	}
	defer messages.Close()
	p, err := stdio.StartProcess(path, c.words, &os.ProcAttr{Env: withoutToken(os.Environ()), Files: []*os.File{stdin, stdout, stderr}})
	stdout.Close()
	stderr.Close()
	if err != nil {
		return "", err
	}
	said := make(chan struct{})
	stdio.Go(func() { // ends with messages, or ctx
		defer close(said)
		sayLines(ctx, c.words[0], messages)
	})
	ended := make(chan struct{})
	var state *os.ProcessState
	var waitErr error
	stdio.Go(func() {
		defer close(ended)
		token, err = trust.ReadToken(out)
		out.Close() // a command that writes more gets SIGPIPE
		state, waitErr = p.Wait()
	})
	select {
	case <-ended:
	case <-ctx.Done():
		stdio.KillGroup(p)
		out.Close() // which may be held by a process that has left the group
		<-ended
		return "", context.Cause(ctx)
	}
	select {
	case <-said:
	case <-time.After(briefly): // stderr, too, may be held
	}
	switch {
	case errors.Is(err, trust.ErrTooLong): // of which the command may have got SIGPIPE
		return "", badToken(err)
	case waitErr != nil:
		return "", waitErr
	case !state.Success():
		return "", errors.New(state.String())
	case err != nil:
		return "", badToken(err)
	}
	return token, nil
}

// sayLines says the lines that a command writes to stderr, until its end or that of
// ctx. A command that writes faster than they are read waits.
func sayLines(ctx context.Context, command string, stderr *os.File) {
	const most = 1 << 10 // bytes; a longer line becomes several
	r := bufio.NewReaderSize(stderr, most)
	for {
		line, _, err := r.ReadLine()
		if err != nil {
			return
		}
		select {
		case <-voice{}.say(commandSays(command, string(line))):
		case <-ctx.Done():
			return
		}
	}
}

// withoutToken is an environment without WSEXEC_TOKEN.
func withoutToken(environ []string) (rest []string) {
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); !strings.EqualFold(name, "WSEXEC_TOKEN") { // Windows ignores the case
			rest = append(rest, kv)
		}
	}
	return rest
}
