package main

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A notifier tells the service manager that has started this program how far it is
// (man 3 sd_notify). Without such a manager it does nothing.
type notifier struct{ socket string }

// newNotifier takes the manager's socket out of the environment.
func newNotifier() notifier {
	n := notifier{os.Getenv("NOTIFY_SOCKET")}
	os.Unsetenv("NOTIFY_SOCKET")
	return n
}

func (n notifier) ready(status string) error { return n.send("READY=1\nSTATUS=" + status) }
func (n notifier) stopping() error           { return n.send("STOPPING=1\nSTATUS=") }

// reloading is followed by ready.
func (n notifier) reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	return n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

func (n notifier) send(state string) error {
	if n.socket == "" {
		return nil
	}
	// A name that begins with @ is one of the abstract namespace, also to package net.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	_, err = c.Write([]byte(state))
	return err
}
