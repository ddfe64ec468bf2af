package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"

	"wsexec/internal/access"
	"wsexec/internal/cleanup"
	"wsexec/internal/proto"
	"wsexec/internal/userdb"
)

// A server of root's runs commands as any user that the policy allows, on Linux. All
// others run them as their own.

// CanRunAs reports whether this server runs commands as other users.
func CanRunAs() bool { return runtime.GOOS == "linux" && os.Geteuid() == 0 }

// OwnUser is the user of this process by name, or without one by number, and by
// number.
func OwnUser() access.RunAs {
	id := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(id); err == nil {
		return access.RunAs{Name: u.Username, ID: id}
	}
	return access.RunAs{Name: id, ID: id}
}

// A noUserError says that a server cannot run commands as a user.
type noUserError struct{ asked, own string }

func (e *noUserError) Error() string {
	if os.Geteuid() == 0 {
		return fmt.Sprintf("this server cannot run commands as the user %q: on %s it runs them as %q alone", e.asked, runtime.GOOS, e.own)
	}
	return fmt.Sprintf("this server cannot run commands as the user %q: it is not root's, and runs them as %q alone", e.asked, e.own)
}

// A lookUpError says that the user database gave no answer.
type lookUpError struct{ error }

func (e *lookUpError) Unwrap() error { return e.error }

// isOfUser reports whether err is about the user that a start names.
func isOfUser(err error) bool {
	var unknown *userdb.UnknownError
	var disabled *userdb.DisabledError
	var no *noUserError
	return errors.As(err, &unknown) || errors.As(err, &disabled) || errors.As(err, &no)
}

// runAs finds out which user a start names, and notes it. It returns nil for the
// server's own where that needs nothing done.
func (x *session) runAs(ctx context.Context, st *proto.Start) (*userdb.Account, error) {
	if st.User == "" {
		return nil, nil
	}
	own := x.srv.own
	if !CanRunAs() {
		if st.User != own.Name && st.User != own.ID {
			return nil, &noUserError{st.User, own.Name}
		}
		x.setUser(own.Name)
		return nil, nil
	}
	if p := x.srv.policy.Load(); p != nil && !p.RunsAsOthers(x.principal) && st.User != own.Name && st.User != own.ID {
		return nil, x.deniedUser(st.User, nil)
	}
	a, err := userdb.Lookup(ctx, cleanup.Output, st.User)
	if no := x.deniedUser(st.User, a); no != nil {
		return nil, no
	}
	switch {
	case err != nil && !isOfUser(err):
		return nil, &lookUpError{err}
	case err != nil:
		return nil, err
	}
	x.setUser(a.Name)
	return a, nil
}

// deniedUser is the refusal of a user that no rule of the policy is for. It comes
// before anything is looked up as that user, and says nothing of it: not even whether
// there is one, which the time does not say either. To a principal that may run commands
// as no other user it comes before the user is looked up; otherwise as much is looked up
// for a user that there is not (userdb.Lookup). a is nil if there is no such user, it
// may not be used, or it was not looked up.
func (x *session) deniedUser(asked string, a *userdb.Account) error {
	p := x.srv.policy.Load()
	if p == nil {
		return nil
	}
	u := access.RunAs{Name: asked, ID: asked}
	if a != nil {
		u = access.RunAs{Name: a.Name, ID: a.ID()}
	}
	if u == x.srv.own || p.RunsAs(x.principal, u) {
		return nil
	}
	return &deniedError{reason: fmt.Sprintf("no rule for %q allows the user %q", x.principal, asked), where: p.Where(0)}
}

func (x *session) setUser(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.user = name
}

// asUser is the user that the command runs as, for the policy: a, or if that is nil
// the server's own.
func (s *Server) asUser(a *userdb.Account) (u access.RunAs, own bool) {
	if a == nil {
		return s.own, true
	}
	u = access.RunAs{Name: a.Name, ID: a.ID()}
	return u, u == s.own
}
