//go:build linux

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// An auditLine is a line of the audit log: its fields as JSON has them.
type auditLine map[string]any

func (l auditLine) text(field string) string { s, _ := l[field].(string); return s }

// status is the exit status that a line has, -1 if none.
func (l auditLine) status() int {
	if n, ok := l["status"].(float64); ok {
		return int(n)
	}
	return -1
}

// auditLines reads an audit log. Each line must be JSON, and none may be cut.
func auditLines(t testing.TB, path string) (all []auditLine) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		t.Errorf("%s ends with %q", path, b[max(0, len(b)-100):])
	}
	for line := range strings.Lines(string(b)) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Errorf("%s: %q: %v", path, line, err)
		}
		all = append(all, l)
	}
	return all
}

// where returns the lines in which each field has that value.
func where(all []auditLine, fields map[string]any) (found []auditLine) {
	for _, l := range all {
		ok := true
		for k, v := range fields {
			ok = ok && fmt.Sprint(l[k]) == fmt.Sprint(v)
		}
		if ok {
			found = append(found, l)
		}
	}
	return found
}

// awaitAudit waits until the log has a line with those fields.
func awaitAudit(t testing.TB, path string, fields map[string]any) auditLine {
	t.Helper()
	var l auditLine
	eventually(t, patience, fmt.Sprintf("the audit log has %v", fields), func() error {
		found := where(auditLines(t, path), fields)
		if len(found) == 0 {
			b, _ := os.ReadFile(path)
			return errors.New(string(b))
		}
		l = found[0]
		return nil
	})
	return l
}

// An auditField is a row of the table of docs/server.md.
type auditField struct{ events []string }

// auditTable reads the fields of docs/server.md.
func auditTable(t *testing.T) map[string]auditField {
	t.Helper()
	_, text, ok := strings.Cut(document(t, "docs/server.md"), "\n| field | in | what |\n")
	if !ok {
		t.Fatal("docs/server.md has no table of the audit log's fields")
	}
	text, _, _ = strings.Cut(text, "\n\n")
	fields := map[string]auditField{}
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\| ([a-z, ]+) \\|").FindAllStringSubmatch(text, -1) {
		for _, name := range strings.Fields(m[1]) {
			fields[strings.Trim(name, "`")] = auditField{strings.Split(m[2], ", ")}
		}
	}
	return fields
}

// Each event has a line with the fields that docs/server.md says, in the order in which
// the events of a session came.
func TestAuditEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	sock := "unix:" + s.dir + "/s"
	log := filepath.Join(s.dir, "audit")
	s.start(t, serverOptions{args: []string{"--listen", "127.0.0.1:0", "--listen", sock, "--audit-log", log, "--trusted-proxy", "127.0.0.8"}})
	s.awaitListening(t)
	await := func(fields map[string]any) auditLine { t.Helper(); return awaitAudit(t, log, fields) }

	s.runWith(t, "12345", "-q", "--name", "quick", "-w", "/tmp", "sh", "-c", "read x; echo out; echo error >&2; sleep "+uniqueSleep()+" & exit 3", "a \x1b\n\"b", "\xff").want(t, 3, "out\n", "error\n")
	s.run(t, "--server", sock, "no-such-command").wantComplaint(t, 127)
	s.run(t, "--server", sock, "true").want(t, 0, "", "")
	s.run(t, "--timeout", "10ms", "sleep", uniqueSleep())
	s.run(t, "sh", "-c", "kill -9 $$")
	s.run(t, "-w", "/\xff", "true").wantComplaint(t, 125)
	s.run(t, link(t, realPath(t, "sleep"), s.dir+"/snooze"), "0").want(t, 0, "", "")
	s.writeFile(t, "\xff", "#!/bin/sh\n", 0o700)
	s.run(t, s.dir+"/\xff").want(t, 0, "", "")
	s.run(t, "true", strings.Repeat("x", 100_000)).want(t, 0, "", "")
	for range 3 {
		s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer wrong-token")
	}
	bearer := "Authorization: Bearer " + s.token(t)
	s.askFrom(t, "127.0.0.8", "/v1/sessions", bearer, "Forwarded: for=192.0.2.7")
	if l := await(map[string]any{"event": "read", "peer": "192.0.2.7"}); !strings.HasPrefix(l.text("proxy"), "127.0.0.8:") {
		t.Errorf("the line of a read behind a proxy is %v", l)
	}
	s.ask(t, "GET", "/v1/sessions/"+strings.Repeat("a", 26), "", bearer)
	s.ask(t, "POST", "/v1/sessions/"+strings.Repeat("a", 26)+"/signal", `{"signal":15}`, bearer)

	relay := s.relay(t, nil)
	c := s.background(t, "--server", relay.url, "--name", "moved", "sh", "-c", "trap 'echo usr1' USR1; trap 'echo usr2' USR2; echo ready; until [ -e "+s.dir+"/go ]; do sleep 0.02; done")
	c.expect(t, "ready")
	c.signal(t, syscall.SIGUSR1)
	c.expect(t, "usr1")
	id := s.only(t).ID
	s.ask(t, "GET", "/v1/sessions/"+id, "", bearer)
	s.ask(t, "POST", "/v1/sessions/"+id+"/signal", `{"signal":12}`, bearer)
	s.ask(t, "POST", "/v1/sessions/"+id+"/signal", `{"signal":200}`, bearer)
	c.expect(t, "usr2")
	relay.lose(t)
	s.awaitLine(t, "msg=lost")
	relay.find()
	await(map[string]any{"event": "attach", "attach": "reconnect", "session": id})
	s.run(t, "--name", "moved", "true", "in vain").wantComplaint(t, 125)
	second := s.onTerminal(t, clientBin, "attach", "moved")
	await(map[string]any{"event": "attach", "attach": "takeover", "session": id})
	c.wait(t, patience)
	second.expect(t, "attached to moved")
	s.touch(t, "go")
	second.wantStatus(t, 0)
	d := s.terminal(t, "--name", "left", "sh", "-c", "echo ready; "+s.until("never"))
	d.expect(t, "ready")
	d.awaitRaw(t)
	d.send(t, "\r~&")
	d.wantStatus(t, 0)
	again := s.onTerminal(t, clientBin, "attach", "left")
	await(map[string]any{"event": "attach", "attach": "attach", "name": "left"})
	again.expect(t, "attached to left")
	again.awaitRaw(t)
	again.send(t, "\r~.")
	again.wantStatus(t, 125)
	await(map[string]any{"event": "end", "name": "left"})
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)

	all := auditLines(t, log)
	one := func(fields map[string]any) auditLine {
		t.Helper()
		found := where(all, fields)
		if len(found) != 1 {
			t.Errorf("%d lines have %v", len(found), fields)
			return auditLine{}
		}
		return found[0]
	}
	quick := one(map[string]any{"event": "start", "name": "quick"})
	if quick.text("principal") != "owner" || quick.text("how") != "token" || !strings.HasPrefix(quick.text("peer"), "127.0.0.1:") || quick.text("dir") != "/tmp" ||
		fmt.Sprint(quick["args"]) != "4" || fmt.Sprintf("%q", quick["argv"]) != fmt.Sprintf("%q", []any{"sh", "-c", quick["argv"].([]any)[2], "a \x1b\n\"b", "\ufffd"}) || fmt.Sprint(quick["argv_b64"].([]any)[4]) != "/w==" {
		t.Errorf("the start is %v", quick)
	}
	end := one(map[string]any{"event": "end", "session": quick["session"]})
	if end.status() != 3 || fmt.Sprint(end["bytes"]) != fmt.Sprint(map[string]any{"stderr": 6, "stdin": 5, "stdout": 4}) || len(end["left_behind"].([]any)) != 1 || end["pid"] == nil {
		t.Errorf("its end is %v", end)
	}
	one(map[string]any{"event": "start", "how": "socket", "peer": "unix", "peer_uid": os.Getuid()})
	one(map[string]any{"event": "refused", "status": 127, "code": "command-not-found", "argv": []any{"no-such-command"}})
	one(map[string]any{"event": "start", "path": realPath(t, "sleep"), "argv": []any{s.dir + "/snooze", "0"}})
	one(map[string]any{"event": "end", "status": 124, "reason": "timeout"})
	one(map[string]any{"event": "end", "status": 137, "signal": "KILL"})
	one(map[string]any{"event": "refused", "status": 125, "code": "bad-directory", "dir_b64": "L/8="})
	if name := s.dir + "/\xff"; one(map[string]any{"event": "start", "path_b64": base64.StdEncoding.EncodeToString([]byte(name))})["path"] != s.dir+"/\ufffd" {
		t.Errorf("no line has the path of %q", name)
	}
	one(map[string]any{"event": "start", "argv_truncated": true})
	one(map[string]any{"event": "refused", "reason": "the token is not the server's", "n": "<nil>"})
	one(map[string]any{"event": "refused", "reason": "the token is not the server's", "n": 2})
	one(map[string]any{"event": "refused", "name": "moved", "reason": "the name is taken", "argv": []any{"true", "in vain"}, "status": 125})
	if n := len(where(all, map[string]any{"event": "refused", "session": strings.Repeat("a", 26), "principal": "owner"})); n != 2 {
		t.Errorf("%d refusals of an unknown session", n)
	}
	one(map[string]any{"event": "read", "session": id})
	one(map[string]any{"event": "signal", "session": id, "signal": "USR1"})
	one(map[string]any{"event": "signal", "session": id, "signal": "USR2", "client": "<nil>"})
	one(map[string]any{"event": "refused", "session": id, "reason": "bad signal", "principal": "owner"})
	one(map[string]any{"event": "stop", "name": "left", "reason": "hangup"})
	one(map[string]any{"event": "end", "name": "left", "reason": "hangup", "status": 125})
	from, _ := one(map[string]any{"event": "attach", "attach": "takeover"})["from"].(map[string]any)
	if from["client"] != one(map[string]any{"event": "start", "name": "moved"})["client"] || from["peer"] == nil || from["principal"] != "owner" {
		t.Errorf("it was taken over from %v", from)
	}

	// The order of events, and the table of fields.
	began, over := map[any]bool{}, map[any]bool{}
	table, seen := auditTable(t), map[string]bool{}
	for _, l := range all {
		event := l.text("event")
		switch id := l["session"]; event {
		case "start":
			if began[id] {
				t.Errorf("session %v starts twice", id)
			}
			began[id] = true
		case "end":
			if !began[id] || over[id] {
				t.Errorf("session %v ends without a start, or twice", id)
			}
			over[id] = true
		case "signal", "stop":
			if !began[id] || over[id] {
				t.Errorf("this line comes before the start or after the end: %v", l)
			}
		}
		if at, err := time.Parse("2006-01-02T15:04:05.000Z", l.text("time")); err != nil || time.Since(at) > time.Hour || time.Since(at) < 0 {
			t.Errorf("the time of %v: %v", l, err)
		}
		for field := range l {
			seen[field] = true
			if of, ok := table[field]; !ok || !slices.Contains(of.events, event) && !slices.Contains(of.events, "all") {
				t.Errorf("docs/server.md does not say that %q has %s", event, field)
			}
		}
	}
	if !maps.Equal(began, over) {
		t.Errorf("%d sessions began, and %d ended", len(began), len(over))
	}
	for field := range table {
		if !seen[field] && field != "may_have_run" {
			t.Errorf("no line has %s", field)
		}
	}

	// The example of docs/server.md has what such a line has.
	m := strings.Trim(regexp.MustCompile("(?m)^`\\{\"event\":\"start\".*\\}`$").FindString(document(t, "docs/server.md")), "`")
	var example auditLine
	if err := json.Unmarshal([]byte(m), &example); err != nil {
		t.Fatalf("the example %q: %v", m, err)
	}
	like := one(map[string]any{"event": "start", "how": "socket"})
	example["name"] = nil
	like["name"] = nil
	if got, want := slices.Sorted(maps.Keys(example)), slices.Sorted(maps.Keys(like)); !slices.Equal(got, want) {
		t.Errorf("the example has %v, and a line %v", got, want)
	}
}

// A start that the policy denied stood as one that was executed and has ended.
func TestAuditOfPolicy(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "audit")
	s := startPolicy(t, allow([]string{realPath(t, "echo") + " hello"}, ""), "--audit-log", log)
	isAllowed(t, s.run(t, link(t, realPath(t, "echo"), s.dir+"/say"), "hello"), "hello\n")
	isDenied(t, s.run(t, "echo", "bye"), "the arguments")
	isDenied(t, s.run(t, "-t", "--name", "me", "-w", "/", "id", "-u"), "no rule")
	awaitAudit(t, log, map[string]any{"name": "me"})
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	var got []string
	for _, l := range auditLines(t, log) {
		got = append(got, fmt.Sprintln(l["event"], l["status"], l["code"], l["path"], l["argv"], l["name"], l["detail"]))
	}
	want := []string{
		fmt.Sprintln("start", nil, nil, realPath(t, "echo"), []string{s.dir + "/say", "hello"}, nil, nil),
		fmt.Sprintln("end", 0, nil, nil, nil, nil, nil),
		fmt.Sprintln("refused", 125, "policy", realPath(t, "echo"), "[echo bye]", nil, s.file+`:3: the arguments are not those of "`+realPath(t, "echo")+` hello"`),
		fmt.Sprintln("refused", 125, "policy", realPath(t, "id"), "[id -u]", "me", s.file+`: no rule for "owner" has the command "`+realPath(t, "id")+`"`),
	}
	if !slices.Equal(got, want) {
		t.Errorf("the audit log has\n%s want\n%s", got, want)
	}
}

// logrotate moves the file and sends SIGHUP, again and again while commands start. No
// line is lost, and none is there twice.
func TestAuditRotation(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	log := filepath.Join(s.dir, "audit")
	s.start(t, serverOptions{args: []string{"--audit-log", log}})
	s.awaitListening(t)
	const rounds, commands = 5, 8
	for i := range rounds {
		done := make(chan struct{})
		go func() {
			defer close(done)
			each(t, commands, 2, func(int) error {
				r, err := tryCapture(s.wsexec("run", "true"), patience)
				if err == nil {
					err = r.check(0, "", "")
				}
				return err
			})
		}()
		if err := os.Rename(log, log+"."+strconv.Itoa(i)); err != nil {
			t.Error(err)
		}
		s.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, patience, "the file is there again", func() error { _, err := os.Stat(log); return err })
		<-done
	}
	if err := os.Rename(log, log+".last"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(log, 0o700); err != nil {
		t.Fatal(err)
	}
	s.cmd.Process.Signal(syscall.SIGHUP)
	s.awaitLine(t, "it goes on in the file that was opened before")
	s.run(t, "true").want(t, 0, "", "")
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	starts, ends := map[any]int{}, map[any]int{}
	for _, name := range []string{"0", "1", "2", "3", "4", "last"} {
		st, err := os.Stat(log + "." + name)
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("%v, %v, want mode 0600", st, err)
		}
		for _, l := range auditLines(t, log+"."+name) {
			switch l.text("event") {
			case "start":
				starts[l["session"]]++
			case "end":
				ends[l["session"]]++
				if starts[l["session"]] != 1 {
					t.Errorf("this end comes before its start: %v", l)
				}
			}
		}
	}
	if len(starts) != rounds*commands+1 || !maps.Equal(starts, ends) {
		t.Errorf("%d starts and %d ends are written, want %d of each", len(starts), len(ends), rounds*commands+1)
	}
}

// wantUnaudited wants a start refused since its line cannot be written. Nothing is run.
func (s *server) wantUnaudited(t *testing.T, reason string) {
	t.Helper()
	status := filepath.Join(s.dir, "status")
	ran := filepath.Join(s.dir, "ran")
	s.run(t, "--status-file", status, "touch", ran).wantComplaint(t, 125, "audit log", reason)
	b, err := os.ReadFile(status)
	if err != nil || !strings.Contains(string(b), `"origin":"server"`) || strings.Contains(string(b), "may_have_run") {
		t.Errorf("the status file has %s, %v", b, err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the command was run")
	}
}

// On a full disk no command is started. It is said once, and not for each.
func TestAuditOnAFullDisk(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--audit-log", "/dev/full")
	for range 3 {
		s.wantUnaudited(t, "no space left on device")
	}
	s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+s.token(t))
	s.cmd.Process.Signal(syscall.SIGTERM)
	if status := s.waitExit(t, patience); status != 0 {
		t.Errorf("status %d", status)
	}
	log := s.log.String()
	if n := strings.Count(log, `msg="audit log failing"`); n != 1 || !strings.Contains(log, "no space left on device") {
		t.Errorf("%d lines say that it fails:\n%s", n, log)
	}
	if !strings.Contains(log, `msg="audit log incomplete"`) {
		t.Errorf("it does not say that lines are missing:\n%s", log)
	}
}

// A FIFO without a reader is refused. One that nobody reads holds a start up for
// --start-timeout, and the server's end for no longer than that.
func TestAuditNobodyReads(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	fifo := filepath.Join(s.dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	wantStartFailure(t, serverOptions{args: []string{"--listen", "unix:" + s.dir + "/x", "--audit-log", fifo}}, "audit log", fifo, "no program reads")
	r, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.start(t, serverOptions{args: []string{"--audit-log", fifo, "--start-timeout", "300ms"}})
	s.awaitListening(t)
	filled := false
	for range 20 {
		if filled = s.run(t, "true", strings.Repeat("x", 16<<10)).status == 125; filled {
			break
		}
	}
	if !filled {
		t.Fatal("the FIFO takes everything")
	}
	s.wantUnaudited(t, "does not take a line")
	// Nothing else waits.
	if got := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+s.token(t)); got.status != 200 {
		t.Errorf("a list: %v", got)
	}
	begin := time.Now()
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	if took := time.Since(begin); took > atOnce {
		t.Errorf("the end took %v", took)
	}
	if n := strings.Count(s.log.String(), `msg="audit log failing"`); n != 1 {
		t.Errorf("%d lines say that it fails:\n%s", n, s.log.String())
	}
}

// A server is killed while commands start. Every line is whole, and there is none
// missing of a command that was run.
func TestAuditOfAKilledServer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	log := filepath.Join(s.dir, "audit")
	s.start(t, serverOptions{args: []string{"--audit-log", log}})
	s.awaitListening(t)
	var n atomic.Int64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		each(t, 4, 4, func(int) error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				cmd := s.wsexec("run", "--linger", "1ms", "sh", "-c", `echo $WSEXEC_SESSION_ID >>`+s.dir+"/ran", strings.Repeat("y", 5000))
				if _, err := tryCapture(cmd, patience); err != nil {
					return err
				}
				n.Add(1)
			}
		})
	}()
	eventually(t, patience, "some commands have run", func() error {
		if n.Load() < 20 {
			return fmt.Errorf("%d have", n.Load())
		}
		return nil
	})
	s.cmd.Process.Kill()
	close(stop)
	s.waitExit(t, patience)
	<-done
	ran, err := os.ReadFile(s.dir + "/ran")
	if err != nil {
		t.Fatal(err)
	}
	all := auditLines(t, log)
	for id := range strings.FieldsSeq(string(ran)) {
		if len(where(all, map[string]any{"event": "start", "session": id})) != 1 {
			t.Errorf("session %s ran a command, and has no line", id)
		}
	}
	// What a server that was killed has left unfinished stays apart.
	if err := os.WriteFile(log, []byte(`{"event":"st`), 0o600); err != nil {
		t.Fatal(err)
	}
	again := startServer(t, "--audit-log", log)
	again.run(t, "true").want(t, 0, "", "")
	again.cmd.Process.Signal(syscall.SIGTERM)
	again.waitExit(t, patience)
	b, err := os.ReadFile(log)
	if err != nil || !strings.HasPrefix(string(b), `{"event":"st`+"\n"+`{"event":"start",`) {
		t.Errorf("the log is %q, %v", b, err)
	}
}

// Neither log has a token, the value of a variable, or what a pattern hides.
func TestAuditHasNoSecrets(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	log := filepath.Join(s.dir, "audit")
	s.start(t, serverOptions{args: []string{"--audit-log", log, "--audit-redact", "--password *", "--audit-redact", "*://*:*@*", "--log-level", "debug"}})
	s.awaitListening(t)
	const secret = "Xb7-secret"
	s.run(t, "-e", "PASSWORD="+secret, "true", "--password", secret, "--password="+secret, "https://me:"+secret+"@example.org/").want(t, 0, "", "")
	s.run(t, "-e", "PATH=/"+secret, "no-such-command").wantComplaint(t, 127)
	s.run(t, "-e", "TERM="+secret, "true").want(t, 0, "", "")
	for _, headers := range [][]string{
		{"Authorization: Bearer " + secret}, {"Authorization: Basic " + secret}, {"Cookie: " + secret}, {"Origin: http://" + secret},
		{"X-Forwarded-Host: " + secret}, {"Wsexec-Open: " + secret},
	} {
		s.ask(t, "GET", "/v1/sessions", "", headers...)
		s.ask(t, "GET", "/v1/sessions?token="+secret, "", headers...)
	}
	w := s.wire(t, "an environment without names", strings.Repeat("b", 26))
	w.control(map[string]any{"type": "open", "client": strings.Repeat("c", 26), "try": 1, "start": map[string]any{"argv": [][]byte{[]byte("true")}, "env": [][]byte{[]byte(secret)}}})
	w.await("error")
	s.awaitLine(t, "the request cannot be served")
	token := s.token(t)
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"the audit log": string(b), "the log": s.log.String()} {
		for _, secret := range []string{secret, token, "wrong"} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s has %q: %s", name, secret, text[max(0, at-300):min(len(text), at+50)])
			}
		}
	}
	if !bytes.Contains(b, []byte(`"argv":["true","--password","[redacted]","--password=[redacted]","[redacted]://[redacted]:[redacted]@[redacted]"]`)) {
		t.Errorf("the audit log is %s", b)
	}
}

// A file that another user could change is refused, as are patterns that hide nothing.
func TestAuditRefusesToStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	open := filepath.Join(s.dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	writable := s.writeFile(t, "writable", "", 0o622)
	for _, c := range []struct {
		args  []string
		words []string
	}{
		{[]string{"--audit-log", open + "/log"}, []string{"audit log", open, "can be written by others", "chmod go-w"}},
		{[]string{"--audit-log", writable}, []string{"audit log", writable, "can be written by others", "chmod go-w"}},
		{[]string{"--audit-log", s.dir}, []string{"audit log", s.dir, "is a directory"}},
		{[]string{"--audit-log", s.dir + "/no/log"}, []string{"audit log", s.dir + "/no", "no such file"}},
		{[]string{"--audit-log", s.dir + "/log", "--audit-redact", "--password"}, []string{"--audit-redact", `"--password" hides nothing`}},
		{[]string{"--audit-redact", "--password *"}, []string{"--audit-redact is for --audit-log and --log-args"}},
	} {
		wantStartFailure(t, serverOptions{args: append([]string{"--listen", "unix:" + s.dir + "/x"}, c.args...)}, c.words...)
	}
	if _, err := os.Lstat(open + "/log"); err == nil {
		t.Error("the log was made in a directory that all can write to")
	}
	// On stderr, beside the log.
	both := startServer(t, "--audit-log", "-", "--log-format", "json")
	both.run(t, "true").want(t, 0, "", "")
	both.awaitLine(t, `{"event":"end",`)
	for line := range strings.Lines(both.log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a line is %q", line)
		}
	}
}
