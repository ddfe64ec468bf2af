package proto

import "time"

// Values of the members of a start that are absent.
const (
	DefaultLinger    = 5 * time.Minute
	DefaultKeepalive = 15 * time.Second
	DefaultDrain     = 250 * time.Millisecond
)

// DefaultWindow is how many bytes of each stream both programs keep, and grant
// at first, where they are not told otherwise.
const DefaultWindow = 1 << 20
