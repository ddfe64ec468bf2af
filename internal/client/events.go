package client

import "time"

// An Event is a [Lost], [NoCredential], [Back] or [Gap].
type Event any

// Lost is the loss of the connection. A new one is tried until Until.
type Lost struct {
	Err   error
	Until time.Time
}

// NoCredential is, between Lost and Back, the first failure of [Server].Credential.
// It is asked again until the session is given up.
type NoCredential struct{ Err error }

// Back is a new connection. After is the time since the loss.
type Back struct{ After time.Duration }

// A Gap is where the server has dropped N bytes of stdout (FD 1) or stderr (FD
// 2), between the bytes written before the event and those written after it.
type Gap struct {
	FD int
	N  int64
}
