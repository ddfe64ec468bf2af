// Command quickstart is for scripts/quickstart: a relay whose connections are cut when
// it is killed.
//
//	quickstart LISTEN CONNECT
//
// It accepts connections on the Unix socket LISTEN, which it makes anew, and passes all
// bytes on to the Unix socket CONNECT and back, until it is killed.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fail("usage: quickstart LISTEN CONNECT")
	}
	os.Remove(os.Args[1]) // of the relay before, which was killed
	l, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fail(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			fail(err)
		}
		go relay(c, os.Args[2])
	}
}

// relay joins a connection to one to the socket, until one of them ends.
func relay(c net.Conn, socket string) {
	defer c.Close()
	s, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer s.Close()
	go func() { // not waited for: it ends with the connections
		defer c.Close()
		io.Copy(c, s)
	}()
	io.Copy(s, c)
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, "quickstart:", why)
	os.Exit(1)
}
