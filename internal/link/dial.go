package link

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"

	"wsexec/internal/poll"
	"wsexec/internal/proto"
	"wsexec/internal/trust"
)

// MaxResponseHeader bounds the header of a server's response, in bytes. Go's
// own bound is 10 MiB, and its error repeats a header that it does not
// understand.
const MaxResponseHeader = 64 << 10

// A Dialer makes the network connection; nil is TCP.
type Dialer func(ctx context.Context) (net.Conn, error)

// DialOptions are the options of Dial. The zero value is usable.
type DialOptions struct {
	Header http.Header
	Dial   Dialer // makes the network connection
	// TLS is for wss and https; nil: the system's authorities count. The server's
	// name and the protocol are filled in, and the version is 1.2 at least.
	TLS *tls.Config
	// Every, if not 0, makes further network connections beside one that is not
	// made yet, one each after at least half of Every. The first that is made
	// is used; the first that fails gives the error.
	Every time.Duration
	// Go starts a goroutine that makes a network connection; nil is the go
	// statement.
	Go func(func())
}

// Dial connects to target, a URL (ws, wss, http or https). It uses the proxy
// that the environment names; a [*ProxyError] is that proxy's refusal. A
// [*TLSError] is that the two ends do not believe, or understand, each other. A
// response is returned also with an error, and up to 1 KiB of its body can then
// be read.
func Dial(ctx context.Context, target string, opts DialOptions) (*Conn, *http.Response, error) {
	return dial(ctx, target, opts, newTransport(opts))
}

func dial(ctx context.Context, target string, opts DialOptions, t *transport) (*Conn, *http.Response, error) {
	conn := new(Conn)
	connect := t.connect
	t.connect = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := connect(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn.net = newNetConn(poll.TakeUnix(c))
		return conn.net, nil
	}
	up := &upgrades{transport: t, conn: conn}
	ws, resp, err := websocket.Dial(ctx, target, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: up, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the token is for one host
		}},
		HTTPHeader:      opts.Header,
		Subprotocols:    []string{proto.Subprotocol},
		CompressionMode: websocket.CompressionDisabled,
	})
	var around *url.Error
	if errors.As(err, &around) {
		err = around.Err // the reason, without the method and the URL
	}
	if err != nil {
		return nil, resp, err
	}
	up.made = true
	ws.CloseNow() // of which there is no more use; its finalizer would close what it has
	return conn, resp, nil
}

// tcpDialer leaves TCP keepalive off, which a link sets; see tune.
var tcpDialer = net.Dialer{KeepAlive: -1}

// transport sends a request to a server.
type transport struct {
	connect connectFunc
	tls     *tls.Config
	fixed   bool // connect ignores the address, as with a Unix socket
	proxy   func(*http.Request) (*url.URL, error)
	below   net.Conn    // the connection on which HTTP or TLS runs
	secured *secureConn // on below; nil: no TLS, or behind a SOCKS proxy
}

func newTransport(opts DialOptions) *transport {
	t := &transport{tls: opts.TLS, fixed: opts.Dial != nil, proxy: http.ProxyFromEnvironment}
	t.connect = func(ctx context.Context, network, addr string) (net.Conn, error) {
		try := opts.Dial
		if try == nil {
			try = func(ctx context.Context) (net.Conn, error) { return trust.Dial(ctx, tcpDialer, network, addr) }
		}
		if opts.Every > 0 {
			try = dialParallel(try, opts.Every, opts.Go)
		}
		return try(ctx)
	}
	return t
}

// NewTransport returns a transport for requests without an upgrade. It reaches
// the server as Dial does with these two options. Each request has a connection
// of its own.
func NewTransport(dial Dialer, cfg *tls.Config) http.RoundTripper {
	return plain{newTransport(DialOptions{Dial: dial, TLS: cfg})}
}

// plain refuses an upgrade: none was asked for, and the body of an upgraded
// connection does not end with the request's context.
type plain struct{ *transport }

func (p plain) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := p.transport.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body.Close()
		return nil, errors.New("what answers there upgrades a plain request")
	}
	return resp, err
}

// A NotHTTPError is the failure of a request that something answered which does
// not speak HTTP.
type NotHTTPError struct{ Err error }

func (e *NotHTTPError) Error() string { return e.Err.Error() }
func (e *NotHTTPError) Unwrap() error { return e.Err }

// isNotHTTP tells the answer that is no HTTP from other failures. net/http has no
// type for it (Go 1.26, response.go, ReadResponse).
func isNotHTTP(err error) bool {
	text := err.Error()
	return strings.Contains(text, "malformed HTTP ") || // response, version, status code
		strings.Contains(text, "readLoopPeekFailLocked: %!w(<nil>)") // bytes before the request (transport.go)
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	connect, direct := t.connect, true
	var socks func(*http.Request) (*url.URL, error)
	if !t.fixed {
		proxy, err := t.proxy(req)
		switch {
		case err != nil:
			return nil, err
		case proxy == nil:
		case proxy.Scheme == "http", proxy.Scheme == "https":
			connect, direct = tunnel(connect, proxy), false
		default:
			socks, direct = http.ProxyURL(proxy), false
		}
	}
	below := func(network, addr string) (c net.Conn, err error) {
		// With the request's context. The other one does not end with it.
		c, err = connect(req.Context(), network, addr)
		t.below = c
		return c, err
	}
	h := &http.Transport{
		Proxy:       socks,
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) { return below(network, addr) },
		DialTLSContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			c, err := below(network, addr)
			if err != nil {
				return nil, err
			}
			t.secured, err = secure(req.Context(), c, addr, t.tls)
			if err != nil {
				return nil, err
			}
			return t.secured, nil
		},
		TLSClientConfig:        tlsConfig(t.tls, func() {}), // behind a SOCKS proxy, where net/http makes the TLS connection
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: MaxResponseHeader,
	}
	resp, err := h.RoundTrip(req)
	var unverified *tls.CertificateVerificationError
	switch {
	case err != nil && direct && isNotHTTP(err):
		err = &NotHTTPError{err}
	case socks != nil && errors.As(err, &unverified):
		err = &TLSError{Err: unverified}
	}
	return resp, err
}

// upgrades refuses an upgrade to another protocol before the library does. The
// library would first wait, up to 3 s, for a body that explains it, and an
// upgraded connection has none (v1.8.15, dial.go).
type upgrades struct {
	*transport
	conn *Conn
	made bool // the handshake is made, and the connection is conn's
}

func (u *upgrades) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := u.transport.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
	if resp.Header.Get("Sec-WebSocket-Protocol") != proto.Subprotocol || resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		resp.Body.Close()
		return nil, errors.New("what answers there does not speak " + proto.Subprotocol)
	}
	body, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		resp.Body.Close()
		return nil, errors.New("internal error: an upgraded connection that cannot be written to")
	}
	var w io.Writer = body
	if u.secured != nil {
		w = u.secured.Conn
	} else if req.URL.Scheme == "http" && u.below == net.Conn(u.conn.net) {
		w = u.conn.net.Conn // with no TLS above it, to the server or to a proxy
	}
	u.conn.init(body, false, clientBuffer)
	u.conn.out.init(w, true)
	u.conn.closer = body
	resp.Body = &upgraded{body, u}
	return resp, nil
}

// clientBuffer is the size of a client's buffer for a connection, in bytes: a
// message with all that a terminal gives at once fits.
const clientBuffer = 4096 + 16

// upgraded is the connection as the library has it, until the handshake is made.
type upgraded struct {
	io.ReadWriteCloser
	by *upgrades
}

// Close leaves the connection open once the handshake is made.
func (u *upgraded) Close() error {
	if u.by.made {
		return nil
	}
	return u.ReadWriteCloser.Close()
}
