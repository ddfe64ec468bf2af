//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// The first example of the protocol's page, played against a server: the client's
// bytes as they stand there get the server's bytes that stand there. Only the
// token, the instance and the process id are others.
func TestExampleOfThePage(t *testing.T) {
	t.Parallel()
	_, text, _ := strings.Cut(document(t, "internal/proto/doc.go"), "// # An example: echo hi\n")
	text, _, _ = strings.Cut(text, "// # An example: a lost")
	text = strings.ReplaceAll(text, "\n//\t    ", "")
	var request, response string
	type message struct {
		client  bool
		first   byte
		payload string
	}
	var messages []message
	for line := range strings.Lines(text) {
		m := regexp.MustCompile(`^//\t([CS])(?:  (.*))?\n$`).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		words := strings.Fields(m[2])
		if len(words) == 0 || len(words[0]) != 2 {
			if m[1] == "C" {
				request += m[2] + "\r\n"
			} else {
				response += m[2] + "\r\n"
			}
			continue
		}
		first, err := hex.DecodeString(words[0])
		if err != nil {
			t.Fatal(err)
		}
		x := message{client: m[1] == "C", first: first[0]}
		if i := strings.IndexByte(m[2], '{'); i >= 0 {
			x.payload = m[2][i:]
		} else {
			for _, w := range words[2:] { // behind the header
				b, err := hex.DecodeString(w)
				if err != nil {
					break // the remark
				}
				x.payload += string(b)
			}
		}
		messages = append(messages, x)
	}

	s := startServer(t)
	c := s.dialTCP(t)
	io.WriteString(c, strings.Replace(request, "TOKEN", s.token(t), 1))
	w := &wire{t: t, what: "the example", c: c, masks: true, br: bufio.NewReader(c)}
	got, err := http.ReadResponse(w.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(response)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.StatusCode != want.StatusCode {
		t.Errorf("status %d, want %d", got.StatusCode, want.StatusCode)
	}
	for name := range want.Header {
		if g := got.Header.Get(name); g != want.Header.Get(name) && (name != "Wsexec-Instance" || len(g) != 26) {
			t.Errorf("%s: %s, want %s", name, g, want.Header.Get(name))
		}
	}

	pid := regexp.MustCompile(`"pid":\d+`)
	for len(messages) > 0 {
		if m := messages[0]; m.client {
			w.send(m.first, []byte(m.payload))
			messages = messages[1:]
			continue
		}
		// The server's next messages, of which those of different streams have no order.
		n := 0
		wanted := map[string]bool{}
		for n < len(messages) && !messages[n].client {
			wanted[string(messages[n].first&0x0f)+pid.ReplaceAllString(messages[n].payload, "")] = true
			n++
		}
		for range n {
			op, b, err := w.next()
			key := string(op) + string(pid.ReplaceAll(b, nil))
			if err != nil || !wanted[key] {
				t.Fatalf("the server sent %d %q (%v), want one of %+v", op, b, err, messages[:n])
			}
			delete(wanted, key)
			if op == wsText && bytes.Contains(b, []byte(`"exit"`)) && len(wanted) > 0 {
				t.Errorf("exit came before %v", wanted)
			}
		}
		messages = messages[n:]
	}
	if b, err := io.ReadAll(w.br); err != nil || len(b) != 0 {
		t.Errorf("after the close came %q, %v", b, err)
	}
	s.awaitNoSession(t)
}
