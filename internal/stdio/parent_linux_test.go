package stdio

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// A parent that has ended before it could be watched is not missed, also where
// another process has its number. The end that is to come is another test's (e2e).
func TestParentThatIsGone(t *testing.T) {
	was := startedBy
	defer func() { startedBy = was }()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for name, pid := range map[string]int{"no such process": gone.Process.Pid, "a stranger": os.Getpid()} {
		startedBy = pid
		p, err := NewParent()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ended := make(chan struct{})
		stop := p.Watch(func() { close(ended) })
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the end is not told", name)
		}
		stop()
	}
	startedBy = 0
	if _, err := NewParent(); err == nil {
		t.Error("a parent in another PID namespace can be watched")
	}
}

// A parent that lives is no parent that has ended, and the watch can be stopped.
func TestParentThatLives(t *testing.T) {
	p, err := NewParent()
	if err != nil {
		t.Fatal(err)
	}
	p.Watch(func() { t.Error("it has ended") })()
}
