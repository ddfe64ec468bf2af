package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"wsexec/internal/access"
	"wsexec/internal/paths"
	"wsexec/internal/server"
	"wsexec/internal/trust"
)

// listeners are the listeners of the server, and the token for those over TCP.
type listeners struct {
	all       []net.Listener
	urls      []string // as a client writes them
	token     string
	tokenFile string         // "" if there is no TCP listener
	tokens    *access.Tokens // the named ones; nil: there is no file of them
	tls       *security      // nil: TCP is not encrypted
	byDefault bool           // without flags a client finds this server
	shared    bool           // users other than the server's can open a Unix socket
}

// listen opens the listeners that the flags ask for, beside the given ones of the
// service manager, and the token file if one of them needs it.
func listen(o *options, given []net.Listener) (_ *listeners, err error) {
	ls := new(listeners)
	defer func() {
		if err != nil {
			ls.close()
		}
	}()
	addrs := o.listen
	var dir string
	if len(addrs) == 0 && len(given) == 0 {
		if dir, err = stateDir(); err != nil {
			return nil, err
		}
		if err := checkSocket(paths.Socket(dir)); err != nil {
			return nil, err
		}
		addrs = []string{"unix:" + paths.Socket(dir)}
		ls.byDefault = true
	}
	if o.tls.cert != "" {
		ls.tls = &security{flags: o.tls}
		if err := ls.tls.load(); err != nil {
			return nil, err
		}
	}
	for _, l := range given {
		if err := ls.inherited(l, o); err != nil {
			return nil, err
		}
	}
	for _, a := range addrs {
		if path, ok := strings.CutPrefix(a, "unix:"); ok {
			path = strings.TrimPrefix(path, "//")
			if own, err := paths.StateDir(); err == nil && path == paths.Socket(own) {
				if _, err := stateDir(); err != nil {
					return nil, err
				}
			}
			err := ls.unix(path, o.socketMode)
			if errors.Is(err, errInUse) && ls.byDefault {
				err = fmt.Errorf("%w; that is yours, which wsexec run uses", err)
			} else if errors.Is(err, errInUse) {
				err = fmt.Errorf("%w; name another with --listen", err)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		// First: a client that waits for the server has read its token when it connects.
		if err := ls.loadToken(o); err != nil {
			return nil, err
		}
		if err := ls.tcp(a, o.plaintext); err != nil {
			return nil, err
		}
	}
	return ls, nil
}

// loadToken loads the token, unless it has been.
func (ls *listeners) loadToken(o *options) (err error) {
	if ls.token != "" {
		return nil
	}
	ls.tokenFile = o.tokenFile
	if ls.tokenFile == "" {
		dir, err := stateDir()
		if err != nil {
			return err
		}
		ls.tokenFile = paths.TokenFile(dir)
	}
	trust.Undumpable()
	if ls.token, err = loadToken(ls.tokenFile); err != nil {
		return err
	}
	path := o.tokens
	if path == "" {
		dir, err := paths.StateDir()
		if err != nil {
			return nil // --token-file does without
		}
		path = paths.TokensFile(dir)
	}
	ls.tokens, err = access.OpenTokens(path)
	if o.tokens == "" && o.tokenFile != "" && errors.Is(err, fs.ErrPermission) {
		ls.tokens = nil // so it does with the state directory of another user, whose HOME this one was started with
		return nil
	}
	if err != nil {
		return remedy(err, "name another with --tokens")
	}
	return nil
}

// watchTokens reads the named tokens again when their file has changed, for as long as
// this program runs: a file system that does not answer holds up nothing else.
func (ls *listeners) watchTokens(log *serverLog) {
	if ls.tokens == nil {
		return
	}
	go ls.tokens.Watch(context.Background(), func(err error) {
		if err != nil {
			log.Sessions.Error("tokens not read", "error", err)
			return
		}
		log.Sessions.Info("tokens read", "count", ls.tokens.Len())
	})
}

var errInUse = errors.New("another server is listening there")

// checkListen checks what the flags say about listeners, and those given by the service
// manager, before anything is touched.
func checkListen(o *options, given []net.Listener) error {
	givenTCP := slices.ContainsFunc(given, isTCP)
	for _, f := range [][2]string{{"token-file", o.tokenFile}, {"tokens", o.tokens}} {
		if len(o.listen) == 0 && !givenTCP && f[1] != "" {
			return usageError(fmt.Errorf("--%s is for TCP, and nothing else asks for that: say --listen HOST:PORT, too", f[0]))
		}
	}
	asksTCP := func(a string) bool { return !strings.HasPrefix(a, "unix:") }
	tcp := givenTCP || slices.ContainsFunc(o.listen, asksTCP)
	if err := o.tls.check(tcp); err != nil {
		return err
	}
	if err := o.oidc.check(tcp, o.policy); err != nil {
		return err
	}
	if o.tls.clientCA != "" && o.policy == "" {
		return needsPolicy("--client-ca", "certificate", "certificate = 'NAME'")
	}
	for _, l := range given {
		if err := o.checkInherited(l); err != nil {
			return err
		}
	}
	for _, a := range o.listen {
		if path, ok := strings.CutPrefix(a, "unix:"); ok {
			if !filepath.IsAbs(path) {
				return usageError(fmt.Errorf("--listen %s is not an absolute path", a))
			}
			if err := checkSocket(strings.TrimPrefix(path, "//")); err != nil {
				return err
			}
			continue
		}
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			return usageError(fmt.Errorf("--listen %q is neither HOST:PORT nor unix:/PATH", a))
		}
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			return usageError(fmt.Errorf("--listen %q: %q is not a port", a, port))
		}
		if !trust.IsLoopback(host) && o.tls.cert == "" && !o.plaintext {
			return fmt.Errorf("--listen %s is off this machine and not encrypted: say --tls-cert FILE --tls-key FILE, listen on 127.0.0.1 behind a TLS proxy, or say --insecure-plaintext", a)
		}
	}
	return nil
}

// checkSocket checks that the system takes the path of a socket.
func checkSocket(path string) error {
	if err := paths.CheckSocket(path); err != nil {
		return listenError("unix:"+path, fmt.Errorf("%w; name another with --listen, or set XDG_STATE_HOME", err))
	}
	return nil
}

// tcp listens on an address. plaintext says that it may be another than this machine's own
// without TLS.
func (ls *listeners) tcp(addr string, plaintext bool) error {
	var lc net.ListenConfig
	if ls.tls == nil && !plaintext {
		lc.Control = trust.OnlyLoopback
	}
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return listenError(addr, err)
	}
	ls.addTCP(l)
	return nil
}

func (ls *listeners) addTCP(l net.Listener) {
	scheme := "ws://"
	if ls.tls != nil {
		scheme = "wss://"
	}
	ls.add(l, scheme+l.Addr().String())
}

func (ls *listeners) add(l net.Listener, url string) {
	ls.all = append(ls.all, l)
	ls.urls = append(ls.urls, url)
}

// unix listens on a socket of that mode. It replaces a socket that
// a server left behind. Of the servers that want the same socket one has PATH.lock,
// so that no server takes the socket for left behind that another one is making.
func (ls *listeners) unix(path string, mode int) (err error) {
	// In a directory that others can change they could replace the socket.
	if err := trust.Dir(path[:strings.LastIndexByte(path, '/')+1]); err != nil {
		return listenError("unix:"+path, remedy(err, "name another with --listen"))
	}
	inUse := fmt.Errorf("cannot listen on unix:%s: %w", path, errInUse)
	lockFile, ours, err := lock(path + ".lock")
	if err != nil {
		return listenError("unix:"+path, remedy(err, "name another with --listen"))
	}
	if !ours {
		return inUse
	}
	defer func() {
		if err != nil {
			unlock(lockFile)
		}
	}()
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != fs.ModeSocket {
			return fmt.Errorf("cannot listen on unix:%s: there is a file of that name, which is no socket", path)
		}
		if err := trust.Check(path, st); err != nil {
			return listenError("unix:"+path, remedy(err, "name another with --listen"))
		}
		// A program that does not use the lock may listen there.
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
			return inUse
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return listenError("unix:"+path, err)
		}
		if err := os.Remove(path); err != nil {
			return listenError("unix:"+path, err)
		}
	}
	// By the umask, not by a chmod: others could open the socket before that.
	old := umask(0o777 &^ mode)
	l, err := net.Listen("unix", path)
	umask(old)
	if err != nil {
		return listenError("unix:"+path, err)
	}
	u := &unixListener{UnixListener: l.(*net.UnixListener), lock: lockFile}
	u.SetUnlinkOnClose(false) // Close does it, if it is ours
	if u.file, err = os.Lstat(path); err != nil {
		u.UnixListener.Close()
		return listenError("unix:"+path, err)
	}
	ls.add(u, "unix:"+path)
	ls.shared = ls.shared || mode&0o077 != 0
	return nil
}

// A unixListener removes its socket when it is closed, but no other one that has
// taken its place.
type unixListener struct {
	*net.UnixListener
	file fs.FileInfo
	lock *os.File
	once sync.Once
	err  error
}

// Close implements [net.Listener]. The server calls it, and so does listeners.close.
func (u *unixListener) Close() error {
	u.once.Do(func() {
		// While the socket is open, no other file has its inode's number.
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
		host, _, _ := net.SplitHostPort(addr)
		return fmt.Errorf("cannot listen on %s: the address is in use; on a free port: wsexec-server --listen %s", addr, shellWord(net.JoinHostPort(host, "0")))
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("cannot listen on %s: %w", addr, err)
}

// serve answers on one of the listeners, by TLS over TCP if the flags ask for that.
func (ls *listeners) serve(srv *server.Server, l net.Listener) error {
	if _, tcp := l.(*net.TCPListener); tcp && ls.tls != nil {
		return srv.ServeTLS(l, ls.tls.config)
	}
	return srv.Serve(l)
}

// reload reads the files of TLS again. What it returns has new connections use them.
func (ls *listeners) reload(log *serverLog) (use func()) {
	if ls.tls == nil {
		return func() {}
	}
	state, err := ls.tls.flags.read()
	if err != nil {
		log.notReloaded(err, "TLS goes on with what was read before")
		return func() {}
	}
	return func() {
		ls.tls.now.Store(state)
		log.every.Info("reloaded", "detail", ls.tls.words())
	}
}

func (ls *listeners) close() {
	for _, l := range ls.all {
		l.Close()
	}
}

func (ls *listeners) where() string { return "listening on " + strings.Join(ls.urls, " and ") }

// announce says where the server listens, whom it lets in, and what to type next, in a
// few lines.
func (ls *listeners) announce(log *serverLog, jobs oidcFlags) {
	access := []string{"the socket lets in its owner alone"}
	if ls.shared {
		access = []string{"the socket lets in the server's own user, root, and users whom the policy names"}
	}
	attrs := []any{"urls", ls.urls}
	if ls.tokenFile != "" {
		access = []string{"token for TCP in " + ls.tokenFile}
		attrs = append(attrs, "token_file", ls.tokenFile)
	}
	if ls.tls != nil {
		access = append(access, ls.tls.words())
		attrs = append(attrs, "certificate", ls.tls.words())
	}
	if words := jobs.words(); len(words) > 0 {
		access = append(access, "jobs of a CI by tokens of "+strings.Join(words, " and of "))
		attrs = append(attrs, "issuers", words)
	}
	log.tell(slog.LevelInfo, slices.Concat([]string{ls.where()}, access, []string{"try: " + ls.try()}), "listening", attrs...)
}

// tryable is a listener's URL as a client of this machine writes it. All addresses
// are a place to listen, but no name of the server (see its isNamed).
func tryable(to string) string {
	u, err := url.Parse(to)
	if err != nil || !net.ParseIP(u.Hostname()).IsUnspecified() {
		return to
	}
	u.Host = net.JoinHostPort("127.0.0.1", u.Port()) // which [::] takes, too (man 7 ipv6, IPV6_V6ONLY)
	return u.String()
}

// try is a command that runs on this server.
func (ls *listeners) try() string {
	words := "wsexec run"
	if !ls.byDefault {
		u, err := url.Parse(tryable(ls.urls[0]))
		if ls.tls != nil && err == nil && u.Scheme == "wss" {
			words += ls.tls.client(u.Hostname(), u.Port())
		} else {
			words += " --server " + shellWord(tryable(ls.urls[0]))
		}
		if ls.tokenFile != "" {
			words += " --token-file " + shellWord(ls.tokenFile)
		}
		if err == nil && u.Scheme == "ws" && !trust.IsLoopback(u.Hostname()) {
			words += " --insecure-plaintext"
		}
	}
	return words + " -- uname -a"
}
