//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/coder/websocket"
)

// The TCP relay is the floor of bulk data: a client and a server process as wsexec
// has, between them nothing but TCP and 64 KiB buffers. It has no frames, no checks,
// no authentication and no exit status.

const relayBuffer = 64 << 10

// relayServer runs the argv that is the first line of each connection, one
// connection at a time, until its own end.
func relayServer([]string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		if err := relayCommand(c.(*net.TCPConn)); err != nil {
			fmt.Fprintln(os.Stderr, "bench relay-server:", err)
		}
	}
}

func relayCommand(c *net.TCPConn) error {
	defer c.Close()
	r := bufio.NewReaderSize(c, 16)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	var argv []string
	if err := json.Unmarshal(line, &argv); err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { // it ends with the connection
		head, _ := r.Peek(r.Buffered())
		in.Write(head)
		shovel(in, c)
		in.Close()
	}()
	shovel(c, out)
	c.CloseWrite()
	return cmd.Wait()
}

// relayClient ADDR ARGV... sends its stdin to the command and writes what comes.
func relayClient(args []string) error {
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	c := conn.(*net.TCPConn)
	line, err := json.Marshal(args[1:])
	if err != nil {
		return err
	}
	if _, err := c.Write(append(line, '\n')); err != nil {
		return err
	}
	go func() { // it ends with the program
		shovel(c, os.Stdin)
		c.CloseWrite()
	}()
	return shovel(os.Stdout, c)
}

// shovel is io.Copy without splice(2), which does not go through a program's memory.
func shovel(w io.Writer, r io.Reader) error {
	b := make([]byte, relayBuffer)
	for {
		n, err := r.Read(b)
		if n > 0 {
			if _, err := w.Write(b[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (l *lab) startRelay(t *transport) error {
	cmd := exec.Command(l.self, "relay-server")
	cmd.Stderr = os.Stderr
	addr, err := l.startLine(cmd)
	if err != nil {
		return err
	}
	t.roots = []int{cmd.Process.Pid}
	t.command = func(_ bool, argv ...string) *exec.Cmd {
		return exec.Command(l.self, append([]string{"relay-client", addr}, argv...)...)
	}
	return nil
}

// startLine starts a program and returns its first line.
func (l *lab) startLine(cmd *exec.Cmd) (string, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := l.start(cmd); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

// websocketClient URL N writes what comes to stdout. websocketd ends without a closing
// handshake, so that it was all is told by the number of bytes.
func websocketClient(args []string) error {
	ctx := context.Background()
	c, _, err := websocket.Dial(ctx, args[0], nil)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	left, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	b := make([]byte, relayBuffer)
	for left > 0 {
		_, r, err := c.Reader(ctx)
		if err != nil {
			return fmt.Errorf("%d bytes are missing: %w", left, err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{os.Stdout}, struct{ io.Reader }{r}, b)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}
