//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Bulk data through pipes. The source is always `head -c N /dev/zero`, which writes
// 4 or 8 KiB at a time.

const (
	rate      = "rate"
	cpuClient = "client"
	cpuServer = "server"
	cpuAll    = "both"
)

var bulkMetrics = []metric{
	{rate, "throughput", "MB/s"},
	{cpuClient, "CPU of the client", "s/GiB"},
	{cpuServer, "CPU of server and command", "s/GiB"},
	{cpuAll, "CPU of both", "s/GiB"},
}

var stdout = measurement{
	name: "stdout", title: "`head -c N /dev/zero` through pipes to /dev/null",
	rounds: [2]int{5, 3}, metrics: bulkMetrics,
	goals: []goal{
		{metric: rate, factor: 0.9, than: relay},
		{metric: rate, factor: 1.5, than: sshGCM},
		{metric: rate, factor: 2.5, than: ssh},
		{metric: cpuAll, atMost: true, factor: 0.6, than: sshGCM},
	},
	subjects: func(l *lab) ([]subject, error) {
		n := l.bulk()
		subjects := bulkSubjects(l, func(t *transport) (values, error) {
			return l.carry(t, n, nil, t.command(false, "head", "-c", strconv.Itoa(n), "/dev/zero"), nil)
		})
		ws, err := l.websocketd(n, "head", "-c", strconv.Itoa(n), "/dev/zero")
		subjects = append(subjects, subject{name: "websocketd", err: err, run: func() (values, error) {
			return l.carry(ws, n, nil, ws.command(false), nil)
		}})
		return append(subjects, subject{name: "floor: local pipe", run: func() (values, error) {
			return l.carry(nil, n, head(n), exec.Command("cat"), nil)
		}}), nil
	},
}

var stdin = measurement{
	name: "stdin", title: "`head -c N /dev/zero` through pipes into `wc -c`, which counts",
	rounds: [2]int{5, 3}, metrics: bulkMetrics,
	goals: []goal{
		{metric: rate, factor: 0.8, than: relay},
		{metric: rate, factor: 1.3, than: sshGCM},
	},
	subjects: func(l *lab) ([]subject, error) {
		n := l.bulk()
		count := func(t *transport, cmd *exec.Cmd) (values, error) {
			var out bytes.Buffer
			cmd.Stdout = &out
			v, err := l.carry(t, n, head(n), cmd, nil)
			return v, errors.Join(err, counted(&out, n))
		}
		subjects := bulkSubjects(l, func(t *transport) (values, error) { return count(t, t.command(false, "wc", "-c")) })
		return append(subjects, subject{name: "floor: local pipe", run: func() (values, error) {
			return count(nil, exec.Command("wc", "-c"))
		}}), nil
	},
}

var both = measurement{
	name: "both", title: "`head -c N /dev/zero` through `cat` and back into a local `wc -c`: both ways at once",
	rounds: [2]int{3, 3}, metrics: bulkMetrics,
	goals: []goal{{metric: rate, factor: 1.3, than: sshGCM}},
	subjects: func(l *lab) ([]subject, error) {
		n := l.bulk() / 2
		count := func(t *transport, cmd *exec.Cmd) (values, error) {
			var out bytes.Buffer
			wc := exec.Command("wc", "-c")
			wc.Stdout = &out
			v, err := l.carry(t, n, head(n), cmd, wc)
			return v, errors.Join(err, counted(&out, n))
		}
		subjects := bulkSubjects(l, func(t *transport) (values, error) { return count(t, t.command(false, "cat")) })
		return append(subjects, subject{name: "floor: local pipes", run: func() (values, error) {
			return count(nil, exec.Command("cat"))
		}}), nil
	},
}

// bulk is the size of the data, 2 GiB.
func (l *lab) bulk() int { return l.pick(2<<30, 128<<20) }

func head(n int) *exec.Cmd { return exec.Command("head", "-c", strconv.Itoa(n), "/dev/zero") }

func bulkSubjects(l *lab, run func(t *transport) (values, error)) []subject {
	var subjects []subject
	for _, name := range []string{wsexec, wsexecTLS, wsexecUnix, ssh, sshGCM, sshShared, relay} {
		t := l.transport(name)
		subjects = append(subjects, subject{name: name, err: t.err, run: func() (values, error) { return run(t) }})
	}
	return subjects
}

func counted(out *bytes.Buffer, n int) error {
	if got := strings.TrimSpace(out.String()); got != strconv.Itoa(n) {
		return fmt.Errorf("%q bytes arrived of %d", got, n)
	}
	return nil
}

// carry times a client that carries n bytes, from source if there is one, and to sink
// if there is one, otherwise to its Stdout or /dev/null. The time is that from its
// start to its end, so the connection is part of it.
func (l *lab) carry(t *transport, n int, source, client, sink *exec.Cmd) (values, error) {
	var own []*os.File // ends of pipes that are the programs', once they run
	closeOwn := func() {
		for _, f := range own {
			f.Close()
		}
		own = nil
	}
	defer closeOwn()
	pipe := func(from, to *exec.Cmd) error {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		own = append(own, r, w)
		from.Stdout, to.Stdin = w, r
		return nil
	}
	if source != nil {
		if err := pipe(source, client); err != nil {
			return nil, err
		}
	}
	if sink != nil {
		if err := pipe(client, sink); err != nil {
			return nil, err
		}
	}
	var said bytes.Buffer
	client.Stderr = &said

	var before time.Duration
	var below int
	if t != nil {
		below, before = len(tree(t.roots)), t.cpu()
	}
	began := time.Now()
	var others []*exec.Cmd
	for _, c := range []*exec.Cmd{source, sink, client} {
		if c == nil {
			continue
		}
		if err := l.start(c); err != nil {
			closeOwn()
			for _, c := range others {
				l.wait(c)
			}
			return nil, err
		}
		if c != client {
			others = append(others, c)
		}
	}
	closeOwn()
	err := l.wait(client)
	for _, c := range others {
		err = errors.Join(err, l.wait(c))
	}
	took := time.Since(began)
	if err != nil {
		return nil, err
	}
	v := values{rate: float64(n) / took.Seconds() / 1e6}
	if t != nil {
		t.settle(below)
		gib := float64(n) / (1 << 30)
		v[cpuClient] = spent(client).Seconds() / gib
		v[cpuServer] = (t.cpu() - before).Seconds() / gib
		v[cpuAll] = v[cpuClient] + v[cpuServer]
	}
	return v, nil
}

func spent(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// websocketd serves one command, of which n bytes come, to each connection.
func (l *lab) websocketd(n int, argv ...string) (*transport, error) {
	program, err := exec.LookPath("websocketd")
	if err != nil {
		return nil, errors.New("there is no websocketd (Debian has it)")
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(program, append([]string{"--address=127.0.0.1", "--port=" + strconv.Itoa(port), "--binary=true", "--loglevel=fatal"}, argv...)...)
	if err := l.start(cmd); err != nil {
		return nil, err
	}
	l.extra(func() { l.end(cmd) })
	if err := await(addr); err != nil {
		return nil, fmt.Errorf("websocketd: %w", err)
	}
	return &transport{name: "websocketd", roots: []int{cmd.Process.Pid}, command: func(bool, ...string) *exec.Cmd {
		return exec.Command(l.self, "websocket-client", "ws://"+addr+"/", strconv.Itoa(n))
	}}, nil
}
