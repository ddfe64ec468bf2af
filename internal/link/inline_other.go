//go:build !unix

package link

import (
	"io"
	"net"
)

// tryFunc returns nil: a goroutine that may wait writes each message.
func tryFunc(io.Writer) func(a, b []byte) (int, error) { return nil }

func fullFunc(io.Writer) func() bool { return nil }

func readFunc(net.Conn) func(p []byte) (int, error) { return nil }
