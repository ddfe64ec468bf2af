// Package leak is for tests: it finds goroutines that outlive them.
package leak

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Main is the body of a TestMain: it runs a package's tests by [Run], and exits.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run runs a package's tests and returns the exit status. It is 1 if goroutines
// are left over.
func Run(m *testing.M) int {
	status := m.Run()
	if status == 0 {
		if leaked := leftover(); leaked != "" {
			fmt.Fprintf(os.Stderr, "leak: goroutines left over:\n\n%s\n", leaked)
			status = 1
		}
	}
	return status
}

// settle bounds how long goroutines that are about to end are waited for.
const settle = 5 * time.Second

// leftover returns the stacks of goroutines that do not end.
func leftover() string {
	deadline := time.Now().Add(settle)
	for {
		var leaked []string
		for i, g := range strings.Split(stacks(), "\n\n") {
			if i == 0 || harmless(g) {
				continue // the first is ours
			}
			leaked = append(leaked, g)
		}
		if len(leaked) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return strings.Join(leaked, "\n\n")
		}
		time.Sleep(10 * time.Millisecond) // there is nothing to wait on: a goroutine tells nobody that it ends
	}
}

func stacks() string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			return string(buf[:n])
		}
		buf = make([]byte, 2*len(buf))
	}
}

// harmless goroutines belong to the runtime, to package testing, or to package
// os/signal, whose one never ends.
func harmless(g string) bool {
	for _, s := range []string{"os/signal.signal_recv", "os/signal.loop", "testing.(*M)", "testing.runFuzz", "runtime.ensureSigM"} {
		if strings.Contains(g, s) {
			return true
		}
	}
	return false
}
