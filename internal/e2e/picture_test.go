//go:build linux

package e2e

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The picture in the README is what scripts/picture draws today: the script
// itself fails if a line is lost or the status is another.
func TestPicture(t *testing.T) {
	t.Parallel()
	t.Run("docs", func(t *testing.T) {
		checkPicture(t, filepath.Join(repository, "docs", "survives.svg"))
	})
	t.Run("recorded", func(t *testing.T) {
		t.Parallel()
		heavy(t)
		need(t, "python3", "tmux", "ps", "haproxy")
		file := filepath.Join(t.TempDir(), "picture.svg")
		cmd := exec.Command(filepath.Join(repository, "scripts", "picture"), file)
		if r, err := tryCapture(cmd, 3*time.Minute); err != nil || r.status != 0 {
			t.Fatalf("got %v, %v", r, err)
		}
		checkPicture(t, file)
	})
}

// checkPicture wants a small picture that is complete in itself, and shows the
// loss, each line of the command, and its status.
func checkPicture(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 50_000 {
		t.Errorf("it has %d bytes, want 50,000 at most", len(b))
	}
	var lasting []string // what the last screen shows
	var all strings.Builder
	d := xml.NewDecoder(strings.NewReader(string(b)))
	shown := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			shown = token.Name.Local == "text"
			switch token.Name.Local {
			case "script", "image", "use", "a", "foreignObject":
				t.Errorf("it has an element %s", token.Name.Local)
			}
			for _, a := range token.Attr {
				if strings.Contains(a.Name.Local, "href") {
					t.Errorf("it refers to %s", a.Value)
				}
				if a.Name.Local == "class" && strings.Contains(a.Value, "gone") {
					shown = false
				}
			}
		case xml.CharData:
			all.Write(token)
			if shown {
				lasting = append(lasting, strings.TrimSpace(string(token)))
			}
		case xml.EndElement:
			shown = false
		}
	}
	for _, word := range []string{"@import", "url(", "@font-face"} {
		if strings.Contains(all.String(), word) {
			t.Errorf("its style has %s", word)
		}
	}
	for _, text := range []string{"wsexec: connection lost", "kill -KILL %1", "prefers-color-scheme:dark", "prefers-reduced-motion"} {
		if !strings.Contains(all.String(), text) {
			t.Errorf("it has no %q", text)
		}
	}
	last := "\n" + strings.Join(lasting, "\n") + "\n"
	for _, line := range []string{"1 of 8", "2 of 8", "3 of 8", "4 of 8", "5 of 8", "6 of 8", "7 of 8", "8 of 8", "status 3"} {
		if strings.Count(last, "\n"+line+"\n") != 1 {
			t.Errorf("the last screen has not %q once:%s", line, last)
		}
	}
}
