package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"wsexec/internal/paths"
	"wsexec/internal/trust"
)

// listeners are what the server listens on, and what lets in.
type listeners struct {
	all       []net.Listener
	urls      []string // as a client writes them
	token     string
	tokenFile string // "" if there is no TCP listener
	byDefault bool   // a client finds this server by itself
}

// listen opens the listeners that the flags ask for, and the token file if one
// of them needs it.
func listen(o *options) (_ *listeners, err error) {
	ls := new(listeners)
	defer func() {
		if err != nil {
			ls.close()
		}
	}()
	addrs := o.listen
	var dir string
	if len(addrs) == 0 {
		if o.tokenFile != "" {
			return nil, usageError(errors.New("--token-file is for TCP, and nothing else asks for that: say --listen HOST:PORT, too"))
		}
		if dir, err = stateDir(); err != nil {
			return nil, err
		}
		addrs = []string{"unix:" + paths.Socket(dir)}
		ls.byDefault = true
	}
	for _, a := range addrs {
		if path, ok := strings.CutPrefix(a, "unix:"); ok {
			if err := ls.unix(strings.TrimPrefix(path, "//")); err != nil {
				return nil, err
			}
			continue
		}
		if err := ls.tcp(a, o.plaintext); err != nil {
			return nil, err
		}
	}
	if !ls.hasTCP() {
		return ls, nil
	}
	ls.tokenFile = o.tokenFile
	if ls.tokenFile == "" {
		if dir, err = stateDir(); err != nil {
			return nil, err
		}
		ls.tokenFile = paths.TokenFile(dir)
	}
	trust.Undumpable()
	ls.token, err = loadToken(ls.tokenFile)
	return ls, err
}

func (ls *listeners) hasTCP() bool {
	for _, u := range ls.urls {
		if strings.HasPrefix(u, "ws://") {
			return true
		}
	}
	return false
}

// stateDir finds the state directory, and makes it for this user alone. All that
// leads to it is looked at first: nothing is made where another user can change it.
func stateDir() (string, error) {
	dir, err := paths.StateDir()
	if err != nil {
		return "", err
	}
	err = trust.Dir(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", stateError(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", stateError(err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return "", stateError(err)
	}
	if own := trust.Check(dir, st); st.Mode().Perm()&0o077 != 0 && !isAnothers(own) {
		if err := os.Chmod(dir, 0o700); err != nil {
			return "", fmt.Errorf("state directory %s can be used by others: %w", dir, err)
		}
	}
	if err := trust.Dir(dir); err != nil {
		return "", stateError(err)
	}
	return dir, nil
}

func isAnothers(err error) bool {
	var e *trust.Error
	return errors.As(err, &e) && e.Foreign
}

func stateError(err error) error {
	return fmt.Errorf("state directory: %w", remedy(err, "set XDG_STATE_HOME to a directory of your own"))
}

// remedy adds to an error what to type, if it is about what others can change.
func remedy(err error, otherwise string) error {
	var e *trust.Error
	if !errors.As(err, &e) {
		return err
	}
	if say := e.Remedy(); say != "" {
		return fmt.Errorf("%w; say: %s (or %s)", err, say, otherwise)
	}
	return fmt.Errorf("%w; %s", err, otherwise)
}

func (ls *listeners) tcp(addr string, plaintext bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return usageError(fmt.Errorf("--listen %q is neither HOST:PORT nor unix:/PATH", addr))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return usageError(fmt.Errorf("--listen %q: %q is not a port", addr, port))
	}
	if !trust.IsLoopback(host) && !plaintext {
		return fmt.Errorf("--listen %s is off this machine and not encrypted: listen on 127.0.0.1 behind a TLS proxy, or say --insecure-plaintext", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return listenError(addr, err)
	}
	ls.all = append(ls.all, l)
	ls.urls = append(ls.urls, "ws://"+l.Addr().String())
	return nil
}

// unix listens on a socket that this user alone can open. One that a server left
// behind is replaced. Of the servers that want the same socket one has PATH.lock,
// so that none takes for left behind what another is about to listen on.
func (ls *listeners) unix(path string) (err error) {
	if !filepath.IsAbs(path) {
		return usageError(fmt.Errorf("--listen unix:%s is not an absolute path", path))
	}
	if err := paths.CheckSocket(path); err != nil {
		return listenError("unix:"+path, fmt.Errorf("%w; name another with --listen, or set XDG_STATE_HOME", err))
	}
	// What others could change they could also put something of theirs in place of.
	if err := trust.Dir(path[:strings.LastIndexByte(path, '/')+1]); err != nil {
		return listenError("unix:"+path, remedy(err, "name another with --listen"))
	}
	taken := fmt.Errorf("cannot listen on unix:%s: another server is listening there", path)
	held, ours, err := lock(path + ".lock")
	if err != nil {
		return listenError("unix:"+path, remedy(err, "name another with --listen"))
	}
	if !ours {
		return taken
	}
	defer func() {
		if err != nil {
			unlock(held)
		}
	}()
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != fs.ModeSocket {
			return fmt.Errorf("cannot listen on unix:%s: there is a file of that name, which is no socket", path)
		}
		if err := trust.Check(path, st); err != nil {
			return listenError("unix:"+path, remedy(err, "name another with --listen"))
		}
		// It may be that of a program that knows nothing of the lock.
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
			return taken
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return listenError("unix:"+path, err)
		}
		if err := os.Remove(path); err != nil {
			return listenError("unix:"+path, err)
		}
	}
	// The mode must be right from the first moment, not after a chmod.
	old := umask(0o177)
	l, err := net.Listen("unix", path)
	umask(old)
	if err != nil {
		return listenError("unix:"+path, err)
	}
	u := &unixListener{UnixListener: l.(*net.UnixListener), lock: held}
	u.SetUnlinkOnClose(false) // Close does it, if it is ours
	if u.file, err = os.Lstat(path); err != nil {
		u.UnixListener.Close()
		return listenError("unix:"+path, err)
	}
	ls.all = append(ls.all, u)
	ls.urls = append(ls.urls, "unix:"+path)
	return nil
}

// A unixListener takes its socket along when it is closed, and no other that has
// taken its place.
type unixListener struct {
	*net.UnixListener
	file fs.FileInfo
	lock *os.File
	once sync.Once
	err  error
}

// Close implements [net.Listener]. The server calls it, and so do we.
func (u *unixListener) Close() error {
	u.once.Do(func() {
		// While it is open, its inode's number is nobody else's.
		path := u.Addr().String()
		if st, err := os.Lstat(path); err == nil && os.SameFile(st, u.file) {
			os.Remove(path)
		}
		u.err = u.UnixListener.Close()
		unlock(u.lock)
	})
	return u.err
}

func listenError(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("cannot listen on %s: the address is in use (another wsexec-server? choose one with --listen)", addr)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("cannot listen on %s: %w", addr, err)
}

func (ls *listeners) close() {
	for _, l := range ls.all {
		l.Close()
	}
}

// announce says in three lines where the server listens and what to type next.
func (ls *listeners) announce() {
	say("listening on %s", strings.Join(ls.urls, " and "))
	if ls.tokenFile != "" {
		say("token for TCP in %s", ls.tokenFile)
	} else {
		say("whoever can open the socket is let in")
	}
	try := "wsexec run"
	if !ls.byDefault {
		try += " --server " + ls.urls[0]
		if ls.tokenFile != "" {
			try += " --token-file " + ls.tokenFile
		}
	}
	say("try: %s -- uname -a", try)
}

// minToken is the least length of a token in characters: 128 bits in base64.
const minToken = 22

// loadToken reads the token, or makes it.
func loadToken(path string) (string, error) {
	f, err := trust.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); lerr == nil {
			return "", fmt.Errorf("token file %s is a symbolic link to nothing; remove it, or make what it points to", path)
		}
		return makeToken(path)
	}
	irregular := fmt.Errorf("token file %s is not a regular file; name one, or one that is not there to have it made", path)
	if errors.Is(err, syscall.ENXIO) {
		return "", irregular // a socket
	}
	if err != nil {
		return "", fmt.Errorf("token file: %w", remedy(err, "name another with --token-file"))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	if !st.Mode().IsRegular() {
		return "", irregular
	}
	if p := st.Mode().Perm(); p&0o077 != 0 && privateModes {
		return "", fmt.Errorf("token file %s can be read by others (mode %04o); say: chmod 600 %s", path, p, path)
	}
	token, err := trust.ReadToken(f)
	if err != nil {
		return "", fmt.Errorf("token file %s: %w", path, err)
	}
	if len(token) < minToken {
		return "", fmt.Errorf("the token in %s is too short to be safe (at least %d characters; remove the file to have one made)", path, minToken)
	}
	return token, nil
}

// makeToken writes 256 random bits to a new file that this user alone can read.
func makeToken(path string) (string, error) {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand
	token := base64.RawURLEncoding.EncodeToString(b[:])
	// Linked into place when it is whole, so that nobody reads half of it and
	// of two servers that start at once one wins.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return "", fmt.Errorf("token file %s cannot be made: %w", path, reason(err))
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(token + "\n")
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Link(tmp.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) {
		return loadToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("token file %s cannot be made: %w", path, reason(err))
	}
	return token, nil
}

// reason is an error without the name of the temporary file, which nobody has
// heard of.
func reason(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}
