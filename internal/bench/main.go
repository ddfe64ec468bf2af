//go:build linux

// Command bench measures wsexec beside what a user would pick instead (OpenSSH,
// websocketd) and beside the kernel's own limits, on this machine and in turn:
// A B A B and so on, so that what else runs here hits all of them alike.
// scripts/bench builds and runs it; docs/performance-goals.md holds a run of it.
//
// A [measurement] has subjects and metrics. Each of its rounds runs every subject
// once, and each metric is told by its median over the rounds. A [goal] compares
// two medians, or one with a bound.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		if helper := helpers[os.Args[1]]; helper != nil {
			if err := helper(os.Args[2:]); err != nil {
				fmt.Fprintf(os.Stderr, "bench %s: %v\n", os.Args[1], err)
				os.Exit(1)
			}
			return
		}
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "scripts/bench:", err)
		os.Exit(1)
	}
}

// helpers are what this program is when it plays a part of its own measurements.
var helpers = map[string]func(args []string) error{
	"relay-server":     relayServer,
	"relay-client":     relayClient,
	"websocket-client": websocketClient,
}

// all measurements, in the order in which they run.
var all = []*measurement{
	&trueRun, &stdout, &stdin, &both,
	&ptyLines, &ptyRaw, &echo, &echoPaced, &interrupt, &interruptSlow,
	&starts, &memory, &busy, &distance, &resume, &growth,
}

func run() error {
	var only nameList
	out := flag.String("out", "", "`DIR` for bench.json, bench.md and bench.svg (default: none are written)")
	quick := flag.Bool("quick", false, "little data, few rounds: a minute or two, and only a first impression")
	rounds := flag.Int("rounds", 0, "`N` rounds of each measurement (default: its own number)")
	docs := flag.Bool("docs", false, "put the run into docs/performance.md, performance-goals.md, .json and .svg")
	list := flag.Bool("list", false, "list the measurements")
	flag.Var(&only, "only", "the measurement `NAME` alone (repeatable; see --list)")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: scripts/bench [flags]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if *list {
		for _, m := range all {
			fmt.Printf("%-16s %s\n", m.name, m.title)
		}
		return nil
	}
	chosen := all
	if len(only) > 0 {
		chosen = nil
		for _, name := range only {
			i := slices.IndexFunc(all, func(m *measurement) bool { return m.name == name })
			if i < 0 {
				return fmt.Errorf("no measurement %q (see --list)", name)
			}
			chosen = append(chosen, all[i])
		}
	} else if *quick {
		chosen = slices.DeleteFunc(slices.Clone(all), func(m *measurement) bool { return m.slow })
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := newLab(*quick)
	if err != nil {
		return err
	}
	defer l.close()
	// Whatever a measurement waits for ends with what it has started.
	defer context.AfterFunc(ctx, l.killAll)()

	rep := newReport(l)
	fmt.Println(rep.Machine)
	for _, m := range chosen {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%s ", m.name)
		res := m.measure(ctx, l, *rounds)
		fmt.Fprintf(os.Stderr, " %v\n", time.Since(began).Round(time.Second))
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		rep.add(res)
		fmt.Print("\n", res.markdown())
		if *out != "" { // each time: what was measured is kept if the next one is interrupted
			if err := rep.write(*out); err != nil {
				return err
			}
		}
	}
	fmt.Print("\n", rep.closing())
	if *docs {
		return rep.writeDocs("docs")
	}
	return nil
}

type nameList []string

func (n *nameList) String() string     { return strings.Join(*n, " ") }
func (n *nameList) Set(s string) error { *n = append(*n, s); return nil }
