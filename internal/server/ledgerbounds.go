package server

import (
	"runtime"

	"wsexec/internal/proto"
)

// Factors of the bounds that have no flag of their own.
const (
	// endedFactor times --max-sessions bounds the sessions that have ended and are
	// not forgotten: those with a client that has not read all, too.
	endedFactor = 4
	// maxLists bounds the pages of lists that one party is reading. Each takes some
	// 20 KiB, for as long as the party reads it.
	maxLists = 64
	// maxSlowed bounds the answers to failures that wait for one address, for up to
	// failureEvery each.
	maxSlowed = 4
)

// maxHandshakes bounds the processors that compute for TLS handshakes: half of them are
// left for what has authenticated.
func maxHandshakes() int { return max(runtime.GOMAXPROCS(0)/2, 1) }

// bounds are the bounds of the ledger.
func (c *Config) bounds() [rows]rowBound {
	lost := evictNone
	if c.EvictLost {
		lost = evictLost
	}
	const sessions, user, conns, memory = "--max-sessions", "--max-sessions-per-user", "--max-connections", "--open-memory"
	return [rows]rowBound{
		strangers: {all: c.MaxConnections, evicts: evictOldest, allWords: "%d connections have no authentication", allFlag: conns},
		connections: {
			each: c.MaxConnections, eachWords: "%d connections of yours have a request under way", eachFlag: conns,
			all: c.MaxConnections, allWords: "%d connections have a request under way", allFlag: conns, evicts: evictIdle,
		},
		unopened: {
			each: c.MaxConnections, eachWords: "%d connections of yours wait for their open", eachFlag: conns,
			all: c.MaxConnections, allWords: "%d connections wait for their open", allFlag: conns, evicts: evictOldest,
		},
		// At least one of the largest.
		openBytes: {
			each: max(int(c.OpenMemory)/2, int(c.MaxCommand)), eachWords: "commands of yours of %d bytes are being sent", eachFlag: memory,
			all: max(int(c.OpenMemory), int(c.MaxCommand)), allWords: "commands of %d bytes are being sent", allFlag: memory,
		},
		parsedBytes: {
			each: max(int(c.OpenMemory)/2, c.largestParsed()), eachWords: "commands of yours of %d bytes are being started", eachFlag: memory,
			all: max(int(c.OpenMemory), c.largestParsed()), allWords: "commands of %d bytes are being started", allFlag: memory,
		},
		parsing:     {all: 1, allWords: "%d large command is being read", allFlag: memory},
		parsingSome: {all: 1, allWords: "%d command is being read", allFlag: memory},
		liveSessions: {
			each: c.MaxSessionsPerUser, eachWords: "%d sessions of yours are in use", eachFlag: user,
			all: c.MaxSessions, allWords: "all %d sessions are in use", allFlag: sessions, evicts: lost,
		},
		endedSessions: {
			each: endedFactor * c.MaxSessionsPerUser, eachWords: "%d sessions of yours have ended whose clients have not read all", eachFlag: user,
			all: endedFactor * c.MaxSessions, allWords: "%d sessions have ended whose clients have not read all", allFlag: sessions,
			idle: c.MaxSessionsPerUser, evicts: evictIdle,
		},
		remembered: {each: maxPast, eachWords: "the ids of %d sessions of yours have to be remembered for as long as a start of one can be on its way", eachFlag: "shorter --max-linger"},
		lists: {
			each: maxLists, eachWords: "%d lists are being sent to you", eachFlag: conns,
			all: 4 * maxLists, allWords: "%d lists are being sent", allFlag: conns,
		},
		// No more than a quarter of the strangers' connections at most.
		slowed: {
			each: maxSlowed, eachWords: "%d answers to you wait", eachFlag: conns,
			all: max(c.MaxConnections/4, maxSlowed), allWords: "%d answers wait", allFlag: conns,
		},
		handshakes: {all: maxHandshakes(), allWords: "%d TLS handshakes are being computed", allFlag: conns},
	}
}

// largestParsed is what the largest open takes at most once it was parsed: one of
// nothing but empty strings.
func (c *Config) largestParsed() int {
	n := int(c.MaxCommand)
	return parsedBytesOf(n, n/proto.StringCost)
}
