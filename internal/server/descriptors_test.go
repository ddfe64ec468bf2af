package server

import (
	"strings"
	"testing"
)

// The bounds could need more descriptors than there may be, which nothing checked:
// with 1,024 a hundred sessions and their connections took those of the Unix socket.
func TestBoundsFitTheDescriptors(t *testing.T) {
	for _, n := range []int{0, LeastDescriptors, LeastDescriptors + 1, 256, 1024, 2048, 2775, 2776, 2777, 1 << 20} {
		for _, asked := range [][3]int{{100, 256, 100}, {1, 1, 1}, {1, 100_000, 1}, {100_000, 1, 7}, {100_000, 100_000, 100_000}} {
			c := Config{Descriptors: n, MaxSessions: asked[0], MaxConnections: asked[1], MaxSessionsPerUser: asked[2]}
			needed := c.descriptors()
			words := c.fit()
			if lowered := c.MaxSessions != asked[0] || c.MaxConnections != asked[1] || c.MaxSessionsPerUser != asked[2]; lowered != (words != "") || lowered != (n > 0 && needed > n) {
				t.Errorf("%d descriptors, %v: lowered %v, %q", n, asked, lowered, words)
			}
			if n > 0 && c.descriptors() > n || c.MaxSessions < 1 || c.MaxConnections < 1 || c.MaxSessionsPerUser > c.MaxSessions {
				t.Errorf("%d descriptors, %v: %d sessions, %d of one, %d connections need %d", n, asked, c.MaxSessions, c.MaxSessionsPerUser, c.MaxConnections, c.descriptors())
			}
			if words != "" && (!strings.Contains(words, "--max-sessions") || !strings.Contains(words, "ulimit")) {
				t.Errorf("the words are %q", words)
			}
		}
	}
}
