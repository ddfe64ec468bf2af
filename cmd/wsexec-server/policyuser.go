package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/cleanup"
	"wsexec/internal/job"
	"wsexec/internal/procgroup"
	"wsexec/internal/server"
	"wsexec/internal/userdb"
)

// lookUpTime bounds the look-up of a user.
const lookUpTime = 10 * time.Second

// A runAs is the user for whom `policy check` asks.
type runAs struct {
	access.RunAs
	own     bool            // it is the one of this process, and of a server that this user starts
	account *userdb.Account // nil: nothing is to be looked up for it
}

// runAs finds the user of the question.
func (q *question) runAs() (u runAs, err error) {
	own := server.OwnUser()
	switch {
	case q.user == "" || !server.CanRunAs() && (q.user == own.Name || q.user == own.ID):
		return runAs{RunAs: own, own: true}, nil
	case !server.CanRunAs():
		return runAs{}, fmt.Errorf("only root can say what the user %q may run: that is looked up as the user", q.user)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), lookUpTime, errors.New("the user database does not answer"))
	defer cancel()
	a, err := userdb.Lookup(ctx, cleanup.Output, q.user)
	if err != nil {
		return runAs{}, err
	}
	u = runAs{RunAs: access.RunAs{Name: a.Name, ID: a.ID()}, account: a}
	u.own = u.RunAs == own
	return u, nil
}

// find finds a command with the rights of the user.
func (u *runAs) find(args []string, path, dir string) (procgroup.Found, error) {
	if u.account != nil {
		return procgroup.FindAs(*job.Credentials(u.account), args, path, dir)
	}
	return procgroup.Find(args, path, dir)
}
