package server

import "fmt"

// How many descriptors the server needs. A session with a client takes 7 to 9: its
// pipes or its terminal, a pidfd, its cgroup or its parent's socket, and the
// connection, which by a Unix socket takes two (poll.Conn). One that has ended takes
// the connection alone.
const (
	ownDescriptors     = 32 + maxTurnedAway
	sessionDescriptors = 10
	endedDescriptors   = 2
	// connectionRows is how many rows --max-connections bounds: strangers,
	// connections and unopened ones, over TCP and over Unix sockets.
	connectionRows = 6
	// leastConnections is the least that --max-connections is lowered to.
	leastConnections = 16
)

// LeastDescriptors is the least limit of descriptors that a server runs with.
const LeastDescriptors = ownDescriptors + connectionRows*leastConnections + sessionDescriptors + endedDescriptors*endedFactor

// descriptors is how many the server needs if all bounds are met.
func (c *Config) descriptors() int {
	return ownDescriptors + connectionRows*c.MaxConnections + (sessionDescriptors+endedDescriptors*endedFactor)*c.MaxSessions
}

// fit lowers the bounds of connections, then of sessions, to what the process may
// open, and returns a warning, "" if the bounds are low enough. A server without
// flags must start all the same, so fit does not fail.
func (c *Config) fit() string {
	need := c.descriptors()
	if c.Descriptors <= 0 || need <= c.Descriptors {
		return ""
	}
	free := c.Descriptors - ownDescriptors
	c.MaxConnections = min(c.MaxConnections, max(free/4/connectionRows, leastConnections))
	c.MaxSessions = min(c.MaxSessions, max((free-connectionRows*c.MaxConnections)/(sessionDescriptors+endedDescriptors*endedFactor), 1))
	c.MaxSessionsPerUser = min(c.MaxSessionsPerUser, c.MaxSessions)
	return fmt.Sprintf("the process may open %d descriptors, and --max-sessions and --max-connections can need %d: lowered to %d sessions and %d connections; ulimit -n raises the bound", c.Descriptors, need, c.MaxSessions, c.MaxConnections)
}
