//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Each way to show a credential, the right one and a wrong one, and values of variables:
// none of it is in a log, an error, a status file, a command line or an environment, but
// for the environment that was given it.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	sleep := realPath(t, "sleep")
	audit := filepath.Join(t.TempDir(), "audit")
	s := startJobs(t, "principals.named.token = 'named'\n[[allow]]\nwho = ['named']\ncommands = ['"+sleep+" *']\nenv = ['X']\n"+letsIn(sleep+" *"), "--audit-log", audit, "--log-level", "debug", "--log-args")
	right := map[string]string{"owner": s.token(t), "named": s.addToken(t, "named"), "job": s.jobToken(nil)}
	wrong := map[string]string{"owner": strings.Repeat("WrOnG", 9), "job": s.jobToken(map[string]any{"repository_id": "43"})}
	wrong["named"] = strings.Repeat("nAmEd", 9)
	const value = "vAlUe-of-a-variable"
	arg := uniqueSleep()
	// client is one that shows a secret, and the secrets that its own environment has.
	clients := 0
	client := func(way, secret string, args ...string) (cmd *exec.Cmd, own []string) {
		clients++
		file := s.writeFile(t, fmt.Sprint("secret", clients), secret+"\n", 0o600)
		flags, env := []string{}, []string{"WSEXEC_TOKEN_FILE=", "X=" + value}
		own = []string{value}
		switch way {
		case "--token-file":
			flags = []string{way, file}
		case "WSEXEC_TOKEN_FILE":
			env[0] += file
		case "WSEXEC_TOKEN":
			env, own = append(env, "WSEXEC_TOKEN="+secret), append(own, secret)
		case "--token-command":
			flags = []string{way, "cat " + file}
		case "--oidc":
			flags, env, own = []string{way, "env:JOB"}, append(env, "JOB="+secret), append(own, secret)
		}
		cmd = s.wsexec(slices.Concat([]string{"run", "-v", "-e", "X"}, flags, args)...)
		cmd.Env = append(cmd.Env, env...)
		return cmd, own
	}
	var texts []string // what was written to persons, and to files
	ways := []string{"--token-file", "WSEXEC_TOKEN_FILE", "WSEXEC_TOKEN", "--token-command", "--oidc"}
	kinds := map[string][]string{"owner": ways[:4], "named": ways[:4], "job": ways}
	mayHave := map[int][]string{} // secrets that a process was given in its environment
	var running []*exec.Cmd
	for kind, ways := range kinds {
		for _, way := range ways {
			cmd, own := client(way, right[kind], "sleep", arg)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill() })
			running, mayHave[cmd.Process.Pid] = append(running, cmd), own
			status := filepath.Join(s.dir, fmt.Sprint("status", clients))
			cmd, _ = client(way, wrong[kind], "--status-file", status, "sleep", "0")
			r := capture(t, cmd)
			if r.status != 125 {
				t.Errorf("%s by %s: %v", kind, way, r)
			}
			texts = append(texts, r.stderr, r.stdout, read(t, status))
		}
	}
	awaitSleepers(t, len(running), arg)
	for _, headers := range [][]string{{"Authorization: Bearer " + right["owner"]}, {"Authorization: Basic " + right["owner"]}, {"Cookie: token=" + right["owner"]}} {
		a := s.ask(t, "GET", "/v1/sessions", "", headers...)
		texts = append(texts, a.body, fmt.Sprint(a.header))
	}
	s.ask(t, "GET", "/v1/sessions?token="+right["owner"], "")

	secrets := []string{value}
	for _, m := range []map[string]string{right, wrong} {
		for _, secret := range m {
			secrets = append(secrets, secret)
		}
	}
	for _, p := range sleepers(arg) { // the commands were given the variable
		mayHave[p.pid] = []string{value}
	}
	looked := 0
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		for _, name := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue // it has ended
			}
			looked++
			for _, secret := range secrets {
				if bytes.Contains(b, []byte(secret)) && (name == "cmdline" || !slices.Contains(mayHave[pid], secret)) {
					t.Errorf("%s/%s has the secret %.20q: %.200q", dir, name, secret, b)
				}
			}
		}
	}
	if looked < 2*len(running) {
		t.Errorf("%d files were looked at", looked)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	for _, cmd := range running {
		cmd.Wait()
	}
	s.waitExit(t, patience)
	texts = append(texts, s.log.String(), read(t, audit))
	for _, text := range texts {
		for _, secret := range secrets {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("the secret %.20q is in %q", secret, text[max(0, at-200):min(len(text), at+80)])
			}
		}
	}
	if a := read(t, audit); strings.Count(a, `"event":"start"`) != len(running) || !strings.Contains(a, `"event":"refused"`) {
		t.Errorf("the audit log has %s", a)
	}
}
