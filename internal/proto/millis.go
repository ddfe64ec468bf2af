package proto

import "time"

// Millis is a duration on the wire: whole milliseconds.
type Millis int64

// MillisOf rounds d away from zero to whole milliseconds, so that what is not
// zero does not become it.
func MillisOf(d time.Duration) Millis {
	m := Millis(d / time.Millisecond)
	switch rest := d % time.Millisecond; {
	case rest > 0:
		m++
	case rest < 0:
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
// may grant: with less, keepalives would be a load of their own.
const MinKeepalive Millis = 100
