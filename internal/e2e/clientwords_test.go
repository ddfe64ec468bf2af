//go:build linux

package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode"
)

// What a client writes, at each place where it can, makes no line of either log longer
// than some screens, and no character in one that controls a terminal.
func TestWordsOfClientsAreBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	audit := filepath.Join(s.dir, "audit")
	s.start(t, serverOptions{args: []string{"--audit-log", audit, "--log-level", "debug", "--trusted-proxy", "127.0.0.8"}})
	s.awaitListening(t)
	evil := strings.Repeat("\x1b]0;X\x07\u202e\u009b2J\xff%s\\", 200)
	inHeader := strings.Repeat("\u202e\u009b2J\xff%s\\", 200) // package http takes no C0 there
	token := s.token(t)
	request := func(method, path string, headers ...string) {
		t.Helper()
		c := s.dialTCP(t)
		defer c.Close()
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\n%s\r\nConnection: close\r\n\r\n", method, path, strings.Join(headers, "\r\n"))
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
			b, _ := io.ReadAll(resp.Body)
			if strings.ContainsFunc(string(b), func(r rune) bool { return r < ' ' && r != '\n' }) || len(b) > 8<<10 {
				t.Errorf("%.20s %.40q: the answer has %d bytes: %.300q", method, path, len(b), b)
			}
		}
	}
	const host = "Host: localhost"
	bearer := "Authorization: Bearer " + token
	id := strings.Repeat("a", 26)
	request(strings.Repeat("M", 5000), "/v1/sessions", host, bearer)
	request("GET", "/v1/sessions?"+inHeader, host, bearer)
	request("GET", "/"+inHeader, host, bearer)
	request("GET", "/v1/sessions/"+inHeader, host, bearer)
	request("GET", "/v1/sessions/"+id+"/"+strings.Repeat("x", 5000), host, bearer)
	request("GET", "/v1/sessions", "Host: "+inHeader, bearer)
	request("GET", "/v1/sessions", "Host: "+strings.Repeat("h", 5000), bearer)
	for _, name := range []string{"Origin", "X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "User-Agent", "Referer", "Cookie", "Authorization"} {
		request("GET", "/v1/sessions", host, name+": "+inHeader)
		request("GET", "/v1/sessions", host, name+": Bearer "+strings.Repeat("y", 5000))
		request("GET", "/v1/sessions/"+id, host, bearer, name+": "+inHeader)
	}
	upgrade := []string{host, bearer, "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: wsexec.v1", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for i := 2; i < len(upgrade); i++ {
		headers := append([]string{}, upgrade...)
		name, _, _ := strings.Cut(headers[i], ":")
		headers[i] = name + ": " + inHeader
		request("GET", "/v1/sessions/"+id, headers...)
	}
	for _, body := range []string{`{"signal":"` + strings.Repeat("z", 3000) + `"}`, `{"` + strings.Repeat("z", 3000) + `":1}`} {
		s.ask(t, "POST", "/v1/sessions/"+id+"/signal", body, bearer)
	}

	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	start := func(more map[string]any) map[string]any {
		m := map[string]any{"argv": []string{b64("true")}}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	for i, m := range []map[string]any{
		{"type": evil}, {"type": "open", "client": evil}, {"type": "open", evil: evil}, {"type": "resize", "rows": evil},
		{"type": "open", "client": strings.Repeat("c", 26), "try": evil},
		{"type": "open", "client": strings.Repeat("c", 26), "try": 1, "have": map[string]any{evil: 1}},
	} {
		w := s.wire(t, fmt.Sprint("message ", i), strings.Repeat("b", 26))
		w.control(m)
		w.next()
	}
	for i, more := range []map[string]any{
		{"argv": []string{b64(evil), b64(evil)}}, {"argv": []string{b64("/" + evil)}}, {"name": evil}, {"name": strings.Repeat("n", 5000)},
		{"dir": b64(evil)}, {"dir": b64("/" + evil)}, {"env": []string{b64(evil + "=1")}}, {"env": []string{b64("WSEXEC_" + evil + "=1")}},
		{"env": []string{b64("LD_" + evil + "=1")}}, {"env": []string{b64("PATH=" + evil)}, "argv": []string{b64("none")}}, {"on_full": evil}, {"timeout": evil},
	} {
		w := s.wire(t, fmt.Sprint("start ", i), strings.Repeat(string(rune('d'+i)), 26))
		w.control(map[string]any{"type": "open", "client": strings.Repeat("c", 26), "try": 1, "have": wide, "start": start(more)})
		w.next()
		w.send(wsClose, append([]byte{0x03, 0xe8}, inHeader[:100]...)) // the reason of the close
	}
	s.run(t, "true").want(t, 0, "", "")
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	for _, log := range []struct {
		name, text string
		most       int // bytes of a line
	}{
		{"the log", s.log.String(), 4 << 10},
		{"the audit log", read(t, audit), 128 << 10}, // which has the command, and says where that is cut
	} {
		if n := strings.Count(log.text, "\n"); n < 20 {
			t.Errorf("%s has %d lines", log.name, n)
		}
		for line := range strings.Lines(log.text) {
			if strings.ContainsFunc(line, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Errorf("%s has a line with characters that do not print: %.300q", log.name, line)
			}
			if len(line) > log.most {
				t.Errorf("%s has a line of %d bytes: %.300s", log.name, len(line), line)
			}
		}
	}
	for _, l := range auditLines(t, audit) {
		for field, v := range l {
			if text, ok := v.(string); ok && len(text) > 1500 && field != "dir" && field != "path" && !strings.HasSuffix(field, "_b64") {
				t.Errorf("a line of the audit log has %s of %d bytes", field, len(text))
			}
		}
	}
}
