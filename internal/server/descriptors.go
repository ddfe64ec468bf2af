package server

import "fmt"

// Descriptors that the server needs: of each it may have at a time. With a client a
// session takes 7 or 8 (its pipes or its terminal, a pidfd, its cgroup or its
// parent's socket, the connection), and one that has ended its connection.
const (
	ownDescriptors     = 32 + maxTurnedAway
	sessionDescriptors = 10
	// connectionRows is how many rows --max-connections bounds: of strangers, of
	// connections and of unopened ones over TCP, and the latter over Unix sockets,
	// for which there are so always some.
	connectionRows = 5
	// leastConnections is the least that --max-connections is lowered to.
	leastConnections = 16
)

// LeastDescriptors is the least limit of descriptors with which a server runs.
const LeastDescriptors = ownDescriptors + connectionRows*leastConnections + sessionDescriptors + endedFactor

// descriptors is what the bounds can need.
func (c *Config) descriptors() int {
	return ownDescriptors + connectionRows*c.MaxConnections + (sessionDescriptors+endedFactor)*c.MaxSessions
}

// fit lowers the bounds of connections and sessions to what the process may open,
// connections first, and says so in words, "" if nothing was to be lowered. Refusing
// to start would end a server whose flags nobody has set; without a word its bounds
// would be others than those of its flags.
func (c *Config) fit() string {
	need := c.descriptors()
	if c.Descriptors <= 0 || need <= c.Descriptors {
		return ""
	}
	free := c.Descriptors - ownDescriptors
	c.MaxConnections = min(c.MaxConnections, max(free/4/connectionRows, leastConnections))
	c.MaxSessions = min(c.MaxSessions, max((free-connectionRows*c.MaxConnections)/(sessionDescriptors+endedFactor), 1))
	c.MaxSessionsPerUser = min(c.MaxSessionsPerUser, c.MaxSessions)
	return fmt.Sprintf("the process may open %d descriptors, and --max-sessions and --max-connections can need %d: lowered to %d sessions and %d connections; ulimit -n raises the bound", c.Descriptors, need, c.MaxSessions, c.MaxConnections)
}
