//go:build linux

package e2e

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A trustedFile is one that the server believes.
type trustedFile struct {
	name, flag string
	content    string
	mode       os.FileMode
}

// trustedFiles are all of them, with a content that is good.
func (s *server) trustedFiles(t testing.TB) []trustedFile {
	t.Helper()
	m := s.mint(t, "server", here(), nil)
	ca := s.mint(t, "ca", x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	return []trustedFile{
		{"token", "--token-file", strings.Repeat("t", 43) + "\n", 0o600},
		{"tokens.toml", "--tokens", "", 0o600},
		{"policy.toml", "--policy", allow([]string{realPath(t, "true")}, ""), 0o600},
		{"cert.pem", "--tls-cert", read(t, m.cert), 0o644},
		{"key.pem", "--tls-key", read(t, m.key), 0o600},
		{"ca.pem", "--client-ca", read(t, ca.cert), 0o644},
		{"audit", "--audit-log", "", 0o600},
		{"log", "--log-file", "", 0o600},
	}
}

// Each file that the server believes × each way in which another user could have made or
// can change it, for root's server and for an ordinary user's: the server does not start,
// and its one line names what is wrong. Of the server's own user and of root it takes each.
func TestTrustedFiles(t *testing.T) {
	needRoot(t)
	t.Parallel()
	files := newServer(t).trustedFiles(t)
	chmod := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := func(s *server, path string) string {
		t.Helper()
		to := filepath.Join(s.dir, "elsewhere")
		if err := errors.Join(os.Mkdir(to, 0o755), os.Rename(path, filepath.Join(to, "file")), os.Symlink(filepath.Join(to, "file"), path)); err != nil {
			t.Fatal(err)
		}
		return to
	}
	const others, writable = "belongs to uid 12002", "can be written by others"
	defects := []struct {
		name string
		make func(s *server, path string, uid int) (blamed, says string) // says is empty of what is none
	}{
		{"none", func(*server, string, int) (string, string) { return "", "" }},
		{"another's", func(_ *server, path string, _ int) (string, string) { give(t, bob, path); return path, others }},
		{"for the group to write", func(_ *server, path string, _ int) (string, string) { chmod(path, 0o660); return path, "" }},
		{"for all to write", func(_ *server, path string, _ int) (string, string) { chmod(path, 0o666); return path, "" }},
		{"in another's directory", func(_ *server, path string, _ int) (string, string) {
			give(t, bob, filepath.Dir(path))
			chmod(filepath.Dir(path), 0o755)
			return filepath.Dir(path), others
		}},
		{"in a directory for the group to write", func(_ *server, path string, _ int) (string, string) {
			chmod(filepath.Dir(path), 0o770)
			return filepath.Dir(path), writable
		}},
		{"in a directory for all to write, sticky", func(_ *server, path string, _ int) (string, string) {
			chmod(filepath.Dir(path), 0o777|os.ModeSticky)
			return "", ""
		}},
		{"below a directory for the group to write", func(s *server, _ string, _ int) (string, string) {
			chmod(s.dir, 0o775)
			return s.dir, writable
		}},
		{"its own link", func(s *server, path string, uid int) (string, string) {
			give(t, uid, elsewhere(s, path), path)
			return "", ""
		}},
		{"another's link", func(s *server, path string, uid int) (string, string) {
			give(t, uid, elsewhere(s, path))
			give(t, bob, path)
			return path, others
		}},
		{"a link into another's directory", func(s *server, path string, uid int) (string, string) {
			to := elsewhere(s, path)
			give(t, uid, path)
			give(t, bob, to)
			return to, others
		}},
		{"a link to another's", func(s *server, path string, uid int) (string, string) {
			to := elsewhere(s, path)
			give(t, uid, path, to)
			give(t, bob, filepath.Join(to, "file"))
			return filepath.Join(to, "file"), others
		}},
	}
	for _, uid := range []int{0, alice} {
		for _, defect := range defects {
			for _, file := range files {
				if file.name == "log" && defect.name == "none" {
					continue // the log of that server is looked at
				}
				t.Run(fmt.Sprintf("uid=%d,%s,%s", uid, file.name, defect.name), func(t *testing.T) {
					t.Parallel()
					s := newServer(t)
					chmod(s.dir, 0o755)
					good, tried := filepath.Join(s.dir, "good"), filepath.Join(s.dir, "tried")
					if err := errors.Join(os.Mkdir(good, 0o755), os.Mkdir(tried, 0o755)); err != nil {
						t.Fatal(err)
					}
					give(t, uid, s.dir, good, tried, s.home, s.state)
					args := []string{"--listen", "127.0.0.1:0"}
					blamed, says := "", ""
					for _, f := range files {
						if f.name == "log" && f.name != file.name {
							continue
						}
						path := filepath.Join(good, f.name)
						if f.name == file.name {
							path = filepath.Join(tried, f.name)
						}
						if err := os.WriteFile(path, []byte(f.content), f.mode); err != nil {
							t.Fatal(err)
						}
						give(t, uid, path)
						if f.name == file.name {
							blamed, says = defect.make(s, path, uid)
						}
						args = append(args, f.flag, path)
					}
					wrap := as(uid)
					if uid == 0 {
						wrap = nil
					}
					s.start(t, serverOptions{bare: true, wrap: wrap, args: args})
					if blamed == "" {
						eventually(t, patience, "the server listens", func() error {
							if log := s.log.String(); !strings.Contains(log, "listening on wss://") {
								return errors.New(log)
							}
							return nil
						})
						return
					}
					if status := s.waitExit(t, patience); status != 1 {
						t.Errorf("status %d, want 1", status)
					}
					want := []string{blamed, says}
					if says == "" { // a secret that others can read is said to be that
						want = []string{blamed, "by others (mode 06", "chmod "}
					}
					checkComplaint(t, "wsexec-server", s.log.String(), want...)
				})
			}
		}
	}
}

// A file that was good when it was read, and is not at SIGHUP, changes nothing.
func TestTrustedFilesAtReload(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := newServer(t)
	args := []string{"--listen", "127.0.0.1:0"}
	var paths []string
	for _, f := range s.trustedFiles(t) {
		if f.name == "log" {
			continue
		}
		paths = append(paths, s.writeFile(t, f.name, f.content, f.mode))
		args = append(args, f.flag, paths[len(paths)-1])
	}
	s.start(t, serverOptions{bare: true, args: args})
	s.awaitSecure(t)
	give(t, bob, paths...)
	s.cmd.Process.Signal(syscall.SIGHUP)
	for _, file := range paths {
		if base := filepath.Base(file); base == "key.pem" || base == "ca.pem" {
			continue // the certificate was looked at before
		}
		s.awaitLine(t, file+" belongs to uid 12002")
	}
	give(t, 0, paths...)
	cmd := s.wsexec("run", "--ca", filepath.Join(s.dir, "cert.pem"), "true")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE="+filepath.Join(s.dir, "token"))
	capture(t, cmd).want(t, 0, "", "")
}
