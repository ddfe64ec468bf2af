package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/access"
	"wsexec/internal/cmdline"
	"wsexec/internal/job"
	"wsexec/internal/server"
	"wsexec/internal/trust"
)

// loadPolicy reads a policy that only this user and root can change.
func loadPolicy(path string) (*access.Policy, error) {
	f, err := trust.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", remedy(err, "name another with --policy"))
	}
	defer f.Close()
	return readPolicy(path, f)
}

// loadPolicy reads the policy of the flag, and checks that it fits the others.
func (o *options) loadPolicy() (*access.Policy, error) {
	p, err := loadPolicy(o.policy)
	if err == nil {
		err = o.oidc.checkPolicy(p)
	}
	return p, err
}

// needsPolicy is the error of a flag that lets in clients whom only a policy knows.
// Without one they could do nothing. known is a line of the policy, by which a client that
// shows a credential of that kind is known.
func needsPolicy(flag, credential, known string) error {
	return fmt.Errorf(`%s lets in clients whom only a policy knows: without one, a %s may do nothing; say --policy FILE, too. The smallest FILE: printf "principals.ci.%s\nallow = [{who = ['ci'], commands = ['/usr/bin/uname -a']}]\n" >FILE`, flag, credential, known)
}

func readPolicy(path string, f *os.File) (*access.Policy, error) {
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("policy: %s is not a regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, access.MaxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	p, err := access.ParsePolicy(path, text)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return p, nil
}

const policyHelp = `Says whether a policy is sound, or what it does with a command.

  wsexec-server policy check FILE
  wsexec-server policy check --as ci -w /srv/build -e CI FILE -- make all

Without a command it reads FILE and warns of what is no fence. With one it says
whether the principal may run it on this machine, and by which line. The status
is 0 for a sound policy or an allowed command, and otherwise 1.`

// policyCommand is `wsexec-server policy`.
func policyCommand() *cli.Command {
	const name = "policy"
	return &cli.Command{
		Name:            name,
		Usage:           "check a policy, and what it does with a command",
		UsageText:       checkUsage,
		Description:     policyHelp,
		HideHelpCommand: true,
		OnUsageError:    badLine(name),
		Subcommands:     []*cli.Command{policyCheck()},
		Action: func(c *cli.Context) error {
			if word := c.Args().First(); word != "" {
				return usageErrorOf(name, fmt.Errorf("there is no policy %s, but policy check", cmdline.Shown(word)))
			}
			return usageErrorOf(name, errors.New("say what to do: policy check FILE"))
		},
	}
}

const checkUsage = "wsexec-server policy check [FLAGS] FILE [-- COMMAND [ARG...]]"

func policyCheck() *cli.Command {
	const name = "policy check"
	var q question
	return &cli.Command{
		Name:            "check",
		Usage:           "say whether a policy is sound, or allows a command",
		UsageText:       checkUsage,
		Description:     policyHelp,
		HideHelpCommand: true,
		OnUsageError:    badLine(name),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "as", Usage: "the `PRINCIPAL` that asks", Value: access.Owner, DefaultText: access.Owner, Destination: &q.principal},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "the `USER` to run as", DefaultText: "you", Destination: &q.user},
			&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "the working directory, `DIR`", DefaultText: "your home", Destination: &q.dir},
			&cli.GenericFlag{Name: "env", Aliases: []string{"e"}, Usage: "the client sets the variable `NAME`, or NAME=VALUE (repeatable)", Value: value(q.addVariable)},
			&cli.BoolFlag{Name: "detach", Usage: "the client leaves the session running", Destination: &q.detach},
			&cli.BoolFlag{Name: "leave-running", Usage: "processes that the command leaves behind may stay", Destination: &q.leaveRunning},
		},
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			switch {
			case len(args) == 0:
				return usageErrorOf(name, errors.New("policy check needs a FILE"))
			case len(args) > 1 && (args[1] != "--" || len(args) == 2):
				return usageErrorOf(name, errors.New("a command stands behind --, as in policy check FILE -- make all"))
			}
			q.file = args[0]
			if len(args) > 1 {
				q.command = args[2:]
			}
			return q.answer(c.App.Writer)
		},
	}
}

// A question is what is asked of a policy.
type question struct {
	file                 string
	principal, user, dir string
	env                  []string // names of variables
	detach, leaveRunning bool
	command              []string // none: whether the policy is sound
}

// addVariable takes a variable as wsexec run -e does. What it is set to nobody asks.
func (q *question) addVariable(s string) error {
	name, _, _ := strings.Cut(s, "=")
	if name == "" {
		return errors.New("a variable has a name, as in -e CI or -e CI=1")
	}
	q.env = append(q.env, name)
	return nil
}

func (q *question) answer(w io.Writer) error {
	if f, err := trust.Open(q.file); err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		// It may still be read here.
		say("warning: a server of yours would not take this file: %v", remedy(err, "name another with --policy"))
	}
	f, err := os.Open(q.file)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	defer f.Close()
	p, err := readPolicy(q.file, f)
	var wrong access.PolicyErrors
	if errors.As(err, &wrong) {
		for _, e := range wrong[:len(wrong)-1] {
			say("policy: %v", e)
		}
		return fmt.Errorf("policy: %w", wrong[len(wrong)-1])
	}
	if err != nil {
		return err
	}
	if len(q.command) > 0 {
		return q.decide(w, p)
	}
	for _, warning := range append(p.Warnings(), misnamed(p)...) {
		say("warning: %s: %s", p.Where(warning.Line), warning.Reason)
	}
	fmt.Fprintln(w, visible(q.file+" is sound"))
	return nil
}

// misnamed are the files of a policy that are not there, or are links: the policy
// is asked about what a link leads to.
func misnamed(p *access.Policy) (ws []access.Warning) {
	for _, f := range p.Files() {
		real, err := filepath.EvalSymlinks(f.Path)
		switch {
		case err != nil:
			ws = append(ws, access.Warning{Line: f.Line, Reason: fmt.Sprintf("%s is not on this machine", f.Path)})
		case real != f.Path:
			ws = append(ws, access.Warning{Line: f.Line, Reason: fmt.Sprintf("%s allows nothing: it leads to %s, and the policy is asked for that", f.Path, real)})
		}
	}
	return ws
}

// decide says what becomes of the command.
func (q *question) decide(w io.Writer, p *access.Policy) error {
	u, err := q.runAs()
	if err != nil {
		return err
	}
	dir := q.dir
	switch {
	case dir == "":
		dir = job.HomeAs(u.account)
	case !filepath.IsAbs(dir):
		dir = job.HomeAs(u.account) + "/" + dir
	}
	found, err := u.find(q.command, cmp.Or(p.Path, job.PathAs(u.account)), dir)
	if err != nil {
		return err
	}
	d := p.Decide(q.principal, access.Request{User: u.RunAs, Own: u.own, AskedDir: q.dir != "", Path: found.Path, Args: q.command[1:], Dir: found.Dir, Env: q.env, Detach: q.detach, LeaveRunning: q.leaveRunning})
	said := fmt.Sprintf("%s may run %s in %s", q.principal, strings.Join(shellWords(append([]string{found.Path}, q.command[1:]...)), " "), found.Dir)
	if q.user != "" {
		said += " as " + u.Name
	}
	switch {
	case !d.Allowed():
		return fmt.Errorf("denied: %s (%s)", d.Reason, p.Where(d.Line))
	case found.Replaceable != "":
		return fmt.Errorf("denied: %s could be replaced while it is started, since the user that it runs as can change %s: a policy allows such a file only if it is a program, and no script", found.Path, found.Replaceable)
	}
	fmt.Fprintf(w, "%s: allowed: %s%s\n", visible(p.Where(d.Line)), visible(said), bounds(d.Rule))
	return nil
}

// bounds are the maxima of a rule, in words.
func bounds(r *access.Rule) string {
	var all []string
	for _, m := range []struct {
		name string
		most *time.Duration
	}{
		{"timeout", r.Max.Timeout}, {"idle_timeout", r.Max.IdleTimeout}, {"linger", r.Max.Linger},
		{"kill_after", r.Max.KillAfter}, {"keepalive", r.Max.Keepalive}, {"drain", r.Max.Drain},
	} {
		if m.most != nil {
			all = append(all, m.name+" "+cmdline.FormatTime(*m.most))
		}
	}
	if r.Sessions > 0 {
		all = append(all, fmt.Sprintf("sessions %d", r.Sessions))
	}
	if len(all) == 0 {
		return ""
	}
	return ", with at most " + strings.Join(all, ", ")
}

// reloadPolicy reads the policy again. What it returns makes that the one of a server. If
// the file is broken, the policy of before stays.
func (o *options) reloadPolicy(srv *server.Server, log *serverLog) (use func()) {
	if o.policy == "" {
		return func() {}
	}
	p, err := o.loadPolicy()
	if err != nil {
		log.notReloaded(err, "the policy that was read before stays")
		return func() {}
	}
	return func() {
		srv.SetPolicy(p)
		log.every.Info("reloaded", "detail", "the policy was read: "+o.policy)
	}
}

func shellWords(words []string) []string {
	words = slices.Clone(words)
	for i, w := range words {
		words[i] = shellWord(w)
	}
	return words
}
