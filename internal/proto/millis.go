package proto

import "time"

// Millis is a duration on the wire, in whole milliseconds.
type Millis int64

// MillisOf rounds d to whole milliseconds away from zero, so that only 0
// becomes 0.
func MillisOf(d time.Duration) Millis {
	m := Millis(d / time.Millisecond)
	switch part := d % time.Millisecond; {
	case part > 0:
		m++
	case part < 0:
		m--
	}
	return m
}

// Duration is the inverse of [MillisOf].
func (m Millis) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// maxMillis bounds durations so that they fit [time.Duration] with room for
// sums: a hundred years.
const maxMillis = Millis(100 * 365 * 24 * time.Hour / time.Millisecond)

// MinKeepalive is the shortest keepalive that a client may ask for and a server
// may grant. With shorter ones the keepalives would be a load.
const MinKeepalive Millis = 100
