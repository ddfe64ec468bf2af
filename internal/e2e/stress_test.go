//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The stress suite: runs of all kinds side by side, over networks that fail, with
// clients that are killed, stopped and replaced. The result of each is known
// exactly. The server's descriptors, threads, helpers and memory are compared
// before and after.
//
// It goes in rounds of a few seconds. A round has a server of its own, and a seed
// from which all of it follows: the server's flags, the runs, and where in their
// data what happens to them. (Which of the runs that are under way at the same time
// is ahead of the others does not.)
//
// scripts/stress starts it. Its settings:
//
//	WSEXEC_E2E_STRESS_DURATION=60s    no round is begun after that; without it the test is skipped
//	WSEXEC_E2E_STRESS_ROUNDS=N        so many rounds instead
//	WSEXEC_E2E_STRESS_SEED=N          of the first round, from which the other seeds follow

// runsPerRound is how much a round does: enough that they get in each other's
// way.
const runsPerRound = 64

func TestStress(t *testing.T) {
	duration := time.Duration(-1)
	if v := os.Getenv("WSEXEC_E2E_STRESS_DURATION"); v != "" {
		var err error
		if duration, err = time.ParseDuration(v); err != nil {
			t.Fatalf("WSEXEC_E2E_STRESS_DURATION: %v", err)
		}
	}
	rounds := int(stressNumber(t, "WSEXEC_E2E_STRESS_ROUNDS", 0))
	if duration < 0 && rounds == 0 {
		t.Skip("scripts/stress runs it")
	}
	seed := stressNumber(t, "WSEXEC_E2E_STRESS_SEED", rand.Uint64())

	// An interrupt ends the suite after its round, with the results so far.
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer close(interrupt)
	defer signal.Stop(interrupt)
	var interrupted atomic.Bool
	go func() {
		for range interrupt {
			interrupted.Store(true)
			fmt.Fprintln(os.Stderr, "stress: interrupted; this round comes to its end")
		}
	}()

	fmt.Fprintf(os.Stderr, "stress: seed %d\n", seed)
	begin := time.Now()
	all := tally{n: map[string]int{}}
	var breached []uint64
	n := 0
	for ; !interrupted.Load() && (rounds > 0 && n < rounds || rounds == 0 && (n == 0 || time.Since(begin) < duration)); n++ {
		r := &round{seed: seed, tally: tally{n: map[string]int{}}}
		began := time.Now()
		word := "ok"
		if !t.Run(fmt.Sprintf("seed=%d", seed), r.do) {
			word = "BREACH"
			breached = append(breached, seed)
		}
		fmt.Fprintf(os.Stderr, "stress: %v: round %d, seed %d, %v: %s: %d runs, %d connections; %s\n",
			time.Since(begin).Round(time.Second), n+1, seed, time.Since(began).Round(100*time.Millisecond), word,
			r.tally.n["runs"], r.tally.n["connections"], r.usage)
		if word != "ok" {
			fmt.Fprintf(os.Stderr, "stress: scripts/stress --seed %d --rounds 1 repeats it\n", seed)
		}
		all.addAll(&r.tally)
		seed = follow(seed, 0)
	}

	fmt.Printf("stress: %d rounds, %d runs, %d connections in %v: %d rounds with a breach\n",
		n, all.n["runs"], all.n["connections"], time.Since(begin).Round(time.Second), len(breached))
	for _, name := range slices.Sorted(maps.Keys(all.n)) {
		fmt.Printf("  %-40s %6d\n", name, all.n[name])
	}
	for _, seed := range breached {
		fmt.Printf("stress: BREACH: scripts/stress --seed %d --rounds 1\n", seed)
	}
}

// stressNumber reads a setting.
func stressNumber(t *testing.T, name string, otherwise uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// follow makes the i-th seed that follows from one.
func follow(seed uint64, i int) uint64 {
	return rand.New(rand.NewPCG(seed, uint64(i)+1)).Uint64()
}

// A tally counts what was done.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what] += n
}

func (c *tally) addAll(o *tally) {
	for what, n := range o.n {
		c.add(what, n)
	}
}

// A round is one server and what it has to bear.
type round struct {
	seed    uint64
	s       *server
	window  int64
	workers int
	most    int // sessions
	tally   tally
	usage   string // for the progress

	mu      sync.Mutex
	cgroups map[string]bool // of the sessions, as far as they were not the server's own
}

func (r *round) do(t *testing.T) {
	rnd := newRand(r.seed)
	r.workers = 4 + rnd.IntN(8)
	r.most = r.workers + 1 + rnd.IntN(3)
	r.window = []int64{4 << 10, 64 << 10, 1 << 20, 1 << 20}[rnd.IntN(4)]
	r.cgroups = map[string]bool{}
	end := rnd.IntN(5)
	args := []string{
		"--listen", "127.0.0.1:0", "--window", fmt.Sprint(r.window), "--max-sessions", fmt.Sprint(r.most),
		"--kill-after", fmt.Sprint(time.Duration(200+rnd.IntN(800)) * time.Millisecond),
		"--cleanup", []string{"auto", "walk"}[rnd.IntN(2)],
		"--start-timeout", "5s",
	}
	t.Logf("seed %d: %d at a time, the server's flags are %q", r.seed, r.workers, args)

	r.s = newServer(t)
	t.Cleanup(func() { r.checkGone(t) }) // after the server's end
	r.s.start(t, serverOptions{args: args})
	r.s.awaitListening(t)

	// After the first runs the server has all that it makes once.
	r.s.run(t, "-T", "true").want(t, 0, "", "")
	r.s.run(t, "-t", "true").want(t, 0, "", "")
	r.s.awaitNoSession(t)
	before := usageOf(t, r.s.pid)

	var next atomic.Int64
	var wg sync.WaitGroup
	for range r.workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= runsPerRound {
					return
				}
				t.Run(fmt.Sprintf("run=%d", i), func(t *testing.T) { r.one(t, i) })
			}
		})
	}
	wg.Wait()
	t.Run("limit", r.limit)
	if t.Failed() {
		return // what failed may still be there
	}
	r.checkIdle(t, before)
	switch end {
	case 0, 1:
		if g := r.s.goroutines(t); g == 0 || g > 20 {
			t.Errorf("the server has %d goroutines after its last session, want at least 1 and at most 20", g)
		}
	case 2:
		t.Run("shutdown", r.shutdown)
	case 3:
		t.Run("killed", r.killed)
	case 4:
		t.Run("exhausted", r.exhausted)
	}
}

// exhausted has a second client exhaust each row of a server's ledger. It is
// another server, since failing starts of that client may take all of the few
// places of this one.
func (r *round) exhausted(t *testing.T) {
	r.tally.add("ledger exhausted", 1)
	s, sock, token := startExhaustible(t, "--window", fmt.Sprint(r.window))
	for what, n := range s.unharmedBy(t, sock, token, 5) {
		r.tally.add("exhausting: "+what, n)
	}
	s.wantMemoryOfOneClient(t, "the ledger exhausted")
}

// one does run i of the round.
func (r *round) one(t *testing.T, i int) {
	seed := follow(r.seed, i+1)
	x := &trial{T: t, r: r, s: r.s, rnd: newRand(seed), name: fmt.Sprintf("run%d", i), log: r.s.startLog()}
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	at := x.rnd.IntN(total)
	for _, k := range kinds {
		if at -= k.weight; at < 0 {
			t.Logf("run %d of seed %d: %s", i, r.seed, k.name)
			r.tally.add("runs", 1)
			r.tally.add("run: "+k.name, 1)
			k.do(x)
			x.settle()
			return
		}
	}
}

// checkIdle checks that the server has nothing any more of what it had to do.
func (r *round) checkIdle(t *testing.T, before usage) {
	r.s.awaitNoSession(t)
	eventually(t, patience, "no process is left", r.s.quiet)
	eventually(t, patience, "no cgroup is left", r.noCgroup)
	const mostMemory = 32 << 20
	var after usage
	err := poll(patience, func() error {
		after = usageOf(t, r.s.pid)
		switch {
		case after.terminals > 0:
			return fmt.Errorf("terminals")
		case after.helpers > before.helpers:
			return fmt.Errorf("helpers")
		case after.descriptors > before.descriptors:
			return fmt.Errorf("descriptors")
		case after.threads > before.threads+16: // Go gives none back
			return fmt.Errorf("threads")
		case after.resident > before.resident+mostMemory && !withDetector:
			return fmt.Errorf("memory")
		}
		return nil
	})
	if err != nil {
		t.Errorf("too many %v: before the round the server had %v, after it %v", err, before, after)
	}
	// At most it had every session with each stream's window, and as much in
	// buffers.
	_, peak := memory(t, r.s.pid)
	if most := before.resident + mostMemory + int64(r.most)*3*2*r.window; peak > most && !withDetector {
		t.Errorf("the server had %d KiB at its peak, want at most %d", peak>>10, most>>10)
	}
	r.usage = fmt.Sprintf("the server has %v, at its peak %d KiB", after, peak>>10)
}

// noCgroup returns an error naming a cgroup of a session that is still there.
func (r *round) noCgroup() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for dir := range r.cgroups {
		if _, err := os.Stat(dir); err == nil {
			return fmt.Errorf("%s", dir)
		}
	}
	return nil
}

// checkGone checks that nothing of the server has outlived it, helpers of its
// own included.
func (r *round) checkGone(t *testing.T) {
	err := poll(patience, func() error {
		for _, p := range processes() {
			if p.hasVariable(r.s.mark + "\x00") {
				return fmt.Errorf("%v", p)
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for dir := range r.cgroups {
			// The server may have had one around those of its sessions.
			for ; dir != ownCgroup() && strings.HasPrefix(dir, ownCgroup()); dir = filepath.Dir(dir) {
				if _, err := os.Stat(dir); err == nil {
					return fmt.Errorf("the cgroup %s", dir)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("after the server's end there is still %v", err)
	}
}

// ownCgroup is the directory of this process's cgroup (v2), "" if there is
// none.
var ownCgroup = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/self/cgroup")
	return cgroupDir(string(b))
})

// cgroupDir finds the directory that /proc/PID/cgroup names.
func cgroupDir(lines string) string {
	for line := range strings.Lines(lines) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		mounts, _ := os.ReadFile("/proc/self/mounts")
		for m := range strings.Lines(string(mounts)) {
			if f := strings.Fields(m); len(f) > 2 && f[2] == "cgroup2" {
				return filepath.Join(f[1], path)
			}
		}
	}
	return ""
}

// limit fills the server: one more is refused and not started, and as soon as
// one of them has ended its place can be had.
func (r *round) limit(t *testing.T) {
	s := r.s
	s.awaitNoSession(t)
	r.tally.add("session limit hit", 1)
	rnd := newRand(follow(r.seed, -1))
	var holders []*client
	for i := range r.most {
		c := s.background(t, "-q", "--name", fmt.Sprintf("holder%d", i), "sh", "-c", fmt.Sprintf("echo ready; %s; exit %d", s.until(fmt.Sprintf("go%d", i)), i+1))
		holders = append(holders, c)
	}
	for _, c := range holders {
		c.expect(t, "ready\n")
	}
	one := func(what string, ok bool) {
		log := s.startLog()
		res := s.run(t, append([]string{"-q"}, log.noting("sh", "-c", "exit 9")...)...)
		if ok {
			res.want(t, 9, "", "")
			log.want(t, 1)
			return
		}
		if res.status != 125 || res.stdout != "" || !strings.HasPrefix(res.stderr, "wsexec: ") || log.count() != 0 {
			t.Errorf("%s: started %d times, got %v, want it refused with status 125", what, log.count(), res)
		}
	}
	one("a full server", false)
	for n, i := range rnd.Perm(r.most) {
		s.touch(t, fmt.Sprintf("go%d", i))
		holders[i].wait(t, patience).want(t, i+1, "ready\n", "")
		if n == 0 {
			one("a place", true)
		}
	}
	for i := range r.most {
		os.Remove(filepath.Join(s.dir, fmt.Sprintf("go%d", i)))
	}
}

// under starts commands that have a server under them, each with sleepers, one
// of which is in a session of its own.
func (r *round) under(t *testing.T, flags ...string) (clients []*client, args []string) {
	for i := range 3 {
		arg := uniqueSleep()
		args = append(args, arg)
		c := r.s.background(t, append(append([]string{"-q", []string{"-T", "-t"}[i%2]}, flags...),
			"sh", "-c", "setsid sleep "+arg+" & echo ready; sleep "+arg)...)
		clients = append(clients, c)
		c.expect(t, "ready")
	}
	return clients, args
}

// shutdown ends the server by TERM while commands run: their clients are told
// how they ended, and nothing of them is left.
func (r *round) shutdown(t *testing.T) {
	r.tally.add("server ended under its clients", 1)
	clients, args := r.under(t)
	r.s.cmd.Process.Signal(syscall.SIGTERM)
	if status := r.s.waitExit(t, patience); status != 0 {
		t.Errorf("after TERM the server's status is %d, want 0", status)
	}
	for _, arg := range args {
		if left := sleepers(arg); len(left) > 0 {
			t.Errorf("the server has ended and there is still %v", left)
		}
	}
	for _, c := range clients {
		if res := c.wait(t, patience); res.status != 128+15 || strings.TrimSpace(res.stdout) != "ready" {
			t.Errorf("got %v, want it ended by TERM", res)
		}
	}
}

// killed kills the server while commands run: they end with it, and their
// clients do not know how.
func (r *round) killed(t *testing.T) {
	r.tally.add("server killed under its clients", 1)
	clients, args := r.under(t, "--linger", "300ms")
	r.s.cmd.Process.Kill()
	r.s.waitExit(t, patience)
	awaitSleepers(t, 0, args...)
	for _, c := range clients {
		if res := c.wait(t, patience); res.status != 125 || strings.TrimSpace(res.stdout) != "ready" {
			t.Errorf("got %v, want status 125", res)
		}
	}
}
