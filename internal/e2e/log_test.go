//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"wsexec/internal/issuertest"
)

// A logRow is a row of a table of docs/server.md.
type logRow struct {
	levels   []string
	required []string
	optional []string
	group    []string // optional keys of a group
}

var logRowLine = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([A-Z, ]+) \\| ([^|]*) ?\\|")

// logTable reads the rows of docs/server.md, up to its words about faults and after
// them.
func logTable(t *testing.T) (lines, faults map[string]logRow) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, "docs", "server.md"))
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(b), "\nThese are for faults")
	if !ok {
		t.Fatal("docs/server.md has no table of faults")
	}
	read := func(text string) map[string]logRow {
		rows := map[string]logRow{}
		for _, m := range logRowLine.FindAllStringSubmatch(text, -1) {
			row := logRow{levels: strings.Split(m[2], ", ")}
			for _, key := range strings.Fields(m[3]) {
				switch name := strings.Trim(key, "[]`*"); {
				case key == "*session*":
					row.required = append(row.required, "session", "principal")
					row.group = append(row.group, "name")
				case key == "*peer*":
					row.required = append(row.required, "peer")
					row.group = append(row.group, "peer_uid", "peer_pid", "proxy", "forwarded_for")
				case strings.HasPrefix(key, "`["):
					row.optional = append(row.optional, name)
				default:
					row.required = append(row.required, name)
				}
			}
			rows[m[1]] = row
		}
		return rows
	}
	return read(before), read(after)
}

// A logged is what the logs of some servers have of one message.
type logged struct {
	levels, keys map[string]bool
}

// A logReader takes lines in JSON, and compares them with the table.
type logReader struct {
	seen map[string]*logged
}

func (l *logReader) read(t *testing.T, rows map[string]logRow, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("a line of the log is no JSON: %q", line)
			continue
		}
		msg, _ := m["msg"].(string)
		level, _ := m["level"].(string)
		row, ok := rows[msg]
		if !ok {
			t.Errorf("docs/server.md has no row of this line: %s", line)
			continue
		}
		of := l.seen[msg]
		if of == nil {
			of = &logged{map[string]bool{}, map[string]bool{}}
			l.seen[msg] = of
		}
		if !slices.Contains(row.levels, level) {
			t.Errorf("the level of this line is not in its row: %s", line)
		}
		of.levels[level] = true
		for key, value := range m {
			if key == "time" || key == "level" || key == "msg" {
				continue
			}
			if !slices.Contains(slices.Concat(row.required, row.optional, row.group), key) {
				t.Errorf("the row of this line does not have its key %s: %s", key, line)
			}
			if n, ok := value.(float64); strings.HasSuffix(key, "_ms") && (!ok || n != float64(int64(n)) || n < 0) {
				t.Errorf("%s is not a number of milliseconds: %s", key, line)
			}
			of.keys[key] = true
		}
		for _, key := range row.required {
			if _, ok := m[key]; !ok {
				t.Errorf("this line lacks %s: %s", key, line)
			}
		}
	}
}

// Each line of the log is provoked, and has the level and the keys of its row in
// docs/server.md.
//
// Nothing said that a connection was lost for good reason, or that a client had come
// back, and from where; a refusal had two shapes, and a wrong token the level of
// everything else.
func TestLogLines(t *testing.T) {
	t.Parallel()
	rows, _ := logTable(t)
	l := &logReader{map[string]*logged{}}

	// The life of sessions.
	s := newServer(t)
	sock := "unix:" + s.dir + "/s"
	s.start(t, serverOptions{
		args: []string{"--listen", "127.0.0.1:0", "--listen", sock, "--token-file", s.tokenFile, "--log-format", "json", "--log-args", "--log-level", "debug", "--trusted-proxy", "127.0.0.8"},
		env:  []string{"WSEXEC_SERVER_MAX_SESSION=3"},
		bare: true,
	})
	s.awaitListening(t)
	s.run(t, "--server", sock, "--name", "quick", "sh", "-c", "exit 3", "a \x1b b").want(t, 3, "", "")
	me := strconv.Itoa(os.Geteuid())
	s.run(t, "--server", sock, "-u", me, "id", "-u").want(t, 0, me+"\n", "")
	s.run(t, "--server", sock, "-u", "no-such-user", "true").wantComplaint(t, 125)
	s.run(t, "--server", sock, "--name", "none", "no-such-command", strings.Repeat("x", 5000)).wantComplaint(t, 127)
	s.run(t, "--timeout", "10ms", "sleep", uniqueSleep())
	s.run(t, "true", strings.Repeat("x", 5000)).want(t, 0, "", "")
	s.addToken(t, "ci")
	s.writeFile(t, "state/wsexec/tokens.toml", "nonsense", 0o600)
	s.awaitLine(t, `"msg":"tokens not read"`)
	const proxied = "X-Forwarded-For: 192.0.2.1, \u202e"
	bearer := "Authorization: Bearer " + s.token(t)
	for range 3 { // the other two are summed up when the server ends
		s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer wrong", proxied)
	}
	s.ask(t, "GET", "/v1/sessions", "", bearer, proxied)
	s.askFrom(t, "127.0.0.8", "/v1/sessions", bearer, "X-Forwarded-For: 192.0.2.7, 127.0.0.8")
	for range 2 { // told once
		s.askFrom(t, "127.0.0.8", "/v1/sessions", bearer, "X-Forwarded-For: 192.0.2.8, nonsense")
	}
	capture(t, s.wsexec("attach", "no-such-session")).wantComplaint(t, 125)
	capture(t, s.wsexec("attach", "--server", sock, strings.Repeat("a", 26))).wantComplaint(t, 125)

	relay := s.relay(t, nil)
	c := s.background(t, "--server", relay.url, "--name", "moved", "sh", "-c", "echo ready; "+s.until("go"))
	c.expect(t, "ready")
	relay.lose(t)
	s.awaitLine(t, `"msg":"lost"`)
	relay.find()
	s.awaitLine(t, `"msg":"reconnected"`)
	second := s.onTerminal(t, clientBin, "attach", "moved")
	s.awaitLine(t, `"msg":"taken over"`)
	c.wait(t, patience)
	second.expect(t, "attached to moved")
	s.touch(t, "go")
	second.wantStatus(t, 0)
	d := s.terminal(t, "--name", "left", "sh", "-c", "echo ready; "+s.until("end"))
	d.expect(t, "ready")
	d.awaitRaw(t)
	d.send(t, "\r~&")
	d.wantStatus(t, 0)
	s.awaitLine(t, `"msg":"detached"`)
	again := s.onTerminal(t, clientBin, "attach", "left")
	s.awaitLine(t, `"msg":"attached"`)
	s.touch(t, "end")
	again.wantStatus(t, 0)
	s.awaitNoSession(t)
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	l.read(t, rows, s.log.String())
	if n := strings.Count(s.log.String(), "proxy not believed"); n != 1 {
		t.Errorf("%d lines say that the proxy is not believed", n)
	}
	for _, want := range []string{
		`"msg":"started","session":"[a-z2-7]{26}","principal":"owner","name":"quick","peer":"unix","peer_uid":\d+,"peer_pid":\d+,"command":"sh","args":3,"argv":\["sh","-c","exit 3","a \\\\x1b b"\],`,
		`"level":"WARN","msg":"refused","reason":"the token is not the server's","peer":"127.0.0.1:\d+","forwarded_for":"192.0.2.1, \\\\u202e"`,
		`"msg":"request","peer":"192.0.2.7","proxy":"127.0.0.8:\d+","principal"`,
		`"msg":"request","peer":"127.0.0.8:\d+","forwarded_for":"192.0.2.8, nonsense","principal"`,
		`"level":"WARN","msg":"proxy not believed","peer":"127.0.0.8:\d+","forwarded_for":"192.0.2.8, nonsense","reason":"header X-Forwarded-For: \\"nonsense\\" is no address"`,
		`"level":"WARN","msg":"more refused","reason":"the token is not the server's","count":2,`,
		`"level":"WARN","msg":"unknown variable","name":"WSEXEC_SERVER_MAX_SESSION"`,
		`"msg":"refused","reason":"no such session","peer":"unix","peer_uid":\d+,"peer_pid":\d+,"session":"a{26}","principal":"owner","code":"not-found"`,
	} {
		if !regexp.MustCompile(want).MatchString(s.log.String()) {
			t.Errorf("no line matches %s", want)
		}
	}

	// What is rarer: the guard is killed, clients do not come back, few files may be
	// open, the log file is moved, the server cannot start.
	need(t, "prlimit")
	r := newServer(t)
	log := filepath.Join(r.dir, "log")
	r.start(t, serverOptions{
		args: []string{"--max-sessions", "1", "--log-format", "json", "--log-file", log},
		wrap: []string{"prlimit", "--nofile=300"},
	})
	r.awaitListening(t)
	read := func() string {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	awaitLogged := func(word string) {
		t.Helper()
		eventually(t, patience, "the log has "+word, func() error {
			if text := read(); !strings.Contains(text, word) {
				return errors.New(text)
			}
			return nil
		})
	}
	for i := range 2 {
		name := fmt.Sprintf("end%d", i)
		c := r.background(t, "sh", "-c", "echo ready; "+r.until(name))
		c.expect(t, "ready")
		c.signal(t, syscall.SIGKILL)
		c.wait(t, patience)
		r.touch(t, name)
		eventually(t, patience, "the command has ended", func() error {
			if n := strings.Count(read(), `"msg":"ended"`); n != i+1 {
				return fmt.Errorf("%d have", n)
			}
			return nil
		})
	}
	awaitLogged(`"msg":"forgotten"`)
	for _, p := range processes() {
		if p.ppid == r.pid && bytes.Equal([]byte(p.args[0]), []byte("wsexec-guard")) {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	awaitLogged(`"msg":"clean-up"`)
	r.cmd.Process.Signal(syscall.SIGHUP)
	awaitLogged(`"msg":"reloaded"`)
	first := read()
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(log, 0o700); err != nil {
		t.Fatal(err)
	}
	r.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, patience, "stderr says that the log goes on as before", func() error {
		if said := r.log.String(); !strings.Contains(said, "wsexec-server: log file: open "+log+": is a directory; the log goes on in the file that was opened before\n") {
			return errors.New(said)
		}
		return nil
	})
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.waitExit(t, patience)
	b, err := os.ReadFile(log + ".1")
	if err != nil || !strings.HasPrefix(string(b), first) || !strings.Contains(string(b), `"msg":"not reloaded"`) || !strings.Contains(string(b), `"msg":"stopped"`) {
		t.Errorf("the log that was moved is %s, %v", b, err)
	}
	l.read(t, rows, string(b))
	if !strings.HasPrefix(r.log.String(), "wsexec-server: ") || strings.Contains(r.log.String(), "{") {
		t.Errorf("stderr has %q, want what is said to a person alone", r.log.String())
	}

	f := startServerWith(t, serverOptions{bare: true, args: []string{"--log-format", "json", "--listen", "nonsense"}})
	if status := f.waitExit(t, patience); status != 1 {
		t.Errorf("status %d", status)
	}
	l.read(t, rows, f.log.String())

	e := newServer(t)
	soon := e.mint(t, "soon", here(), nil) // expires in an hour
	e.start(t, serverOptions{args: []string{"--log-format", "json", "--tls-cert", soon.cert, "--tls-key", soon.key}})
	e.awaitSecure(t)
	e.awaitLine(t, `"msg":"certificate expires","detail":"TLS certificate `+soon.cert+`:1 for 127.0.0.1 expires at `)
	conn := e.dialTCP(t)
	io.WriteString(conn, "SSH-2.0-x\r\n")
	e.awaitLine(t, `"msg":"refused","reason":"the TLS handshake failed","peer":"127.0.0.1:`)
	e.cmd.Process.Signal(syscall.SIGHUP)
	e.awaitLine(t, `"msg":"reloaded","detail":"TLS certificate for 127.0.0.1, until `)
	e.cmd.Process.Signal(syscall.SIGTERM)
	e.waitExit(t, patience)
	l.read(t, rows, e.log.String())

	j := jobServer{issuer: issuertest.Start(t)}
	j.issuer.Misbehave(issuertest.Away)
	j.policyServer = startPolicy(t, letsIn("/bin/true"), "--log-format", "json", "--oidc-issuer", j.issuer.URL, "--oidc-audience", j.issuer.Audience)
	j.awaitLine(t, `"msg":"issuer away"`)
	j.issuer.Misbehave(nil)
	j.awaitLine(t, `"msg":"issuer reached"`)
	j.cmd.Process.Signal(syscall.SIGTERM)
	j.waitExit(t, patience)
	l.read(t, rows, j.log.String())

	group := map[string]bool{}
	for msg, row := range rows {
		for _, key := range row.group {
			group[key] = group[key] || l.seen[msg] != nil && l.seen[msg].keys[key]
		}
		of := l.seen[msg]
		if of == nil {
			t.Errorf("no line %q was provoked", msg)
			continue
		}
		for _, key := range append(slices.Clone(row.required), row.optional...) {
			if !of.keys[key] && msg != "clean-up" { // which has those of one of its events
				t.Errorf("no line %q has %s", msg, key)
			}
		}
	}
	for key, there := range group {
		if !there {
			t.Errorf("no line has %s", key)
		}
	}
}

// The lines about faults cannot all be provoked. Each is in the code, and each line of
// the code is in one of the tables.
func TestLogFaults(t *testing.T) {
	t.Parallel()
	rows, faults := logTable(t)
	var source []byte
	for _, pattern := range []string{"internal/server/*.go", "internal/job/*.go", "cmd/wsexec-server/*.go"} {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(f, "_test.go") {
				source = append(source, b...)
			}
		}
	}
	if len(faults) < 5 {
		t.Errorf("only %d rows", len(faults))
	}
	calls := regexp.MustCompile(`(?:\.(Debug|Info|Warn|Error)\(|logs\(slog\.Level(Debug|Info|Warn|Error), )"([^"]+)"`).FindAllSubmatch(source, -1)
	if len(calls) < 20 {
		t.Errorf("only %d calls are found", len(calls))
	}
	for _, m := range calls {
		level, msg := strings.ToUpper(string(m[1])+string(m[2])), string(m[3])
		if !slices.Contains(append(rows[msg].levels, faults[msg].levels...), level) {
			t.Errorf("docs/server.md has no row of %s %q", level, msg)
		}
	}
	for msg, row := range faults {
		level := strings.ToUpper(row.levels[0][:1]) + strings.ToLower(row.levels[0][1:])
		if !regexp.MustCompile(`(?:\.` + level + `\(|slog\.Level` + level + `, )"` + regexp.QuoteMeta(msg) + `"`).Match(source) {
			t.Errorf("the code has no line %s %q", row.levels[0], msg)
		}
	}
}

// wsexec-server & wrote five lines of log around the output of each command that was
// typed at the same terminal.
func TestLogOnATerminal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	sock := "unix:" + s.dir + "/s"
	run := func(flags ...string) string {
		c := s.onTerminal(t, append([]string{serverBin, "--listen", sock}, flags...)...)
		c.expect(t, "wsexec-server: try: wsexec run --server "+sock+" -- uname -a\r\n")
		s.run(t, "--server", sock, "echo", "hi").want(t, 0, "hi\n", "")
		s.run(t, "--server", sock, "no-such-command").wantComplaint(t, 127)
		capture(t, s.wsexec("attach", "--server", sock, strings.Repeat("a", 26))).wantComplaint(t, 125)
		c.expect(t, "level=WARN msg=refused")
		for _, p := range processes() {
			if p.ppid == c.shell.Process.Pid && p.program() == serverBin {
				syscall.Kill(p.pid, syscall.SIGTERM)
			}
		}
		c.wantStatus(t, 0)
		return c.out.String()
	}
	if shown := run(); strings.Contains(shown, "level=INFO") || !strings.Contains(shown, "wsexec-server: listening on "+sock+"\r\n") {
		t.Errorf("the terminal shows %s, want where it listens, and of the log the refusal alone", quote(shown))
	}
	if shown := run("--log-level", "info"); !strings.Contains(shown, "msg=started") || !strings.Contains(shown, "msg=stopped") {
		t.Errorf("with --log-level info the terminal shows %s", quote(shown))
	}
}

// awaitLine waits until the log, on stderr, has some text.
func (s *server) awaitLine(t testing.TB, text string) {
	t.Helper()
	eventually(t, patience, "the log has "+text, func() error {
		if log := s.log.String(); !strings.Contains(log, text) {
			return errors.New(log)
		}
		return nil
	})
}
