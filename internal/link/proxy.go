package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// A ProxyError is the failure or refusal of an HTTP proxy to connect to the server.
type ProxyError struct {
	Proxy  string // its URL, without user and password
	Status int    // of its HTTP response; 0: it gave none
	Err    error  // why it gave none
}

func (e *ProxyError) Unwrap() error { return e.Err }

func (e *ProxyError) Error() string {
	switch {
	case errors.Is(e.Err, io.EOF), errors.Is(e.Err, io.ErrUnexpectedEOF):
		return fmt.Sprintf("the proxy %s closed the connection without an answer", e.Proxy)
	case e.Err != nil:
		return fmt.Sprintf("the proxy %s: %v", e.Proxy, e.Err)
	}
	return fmt.Sprintf("the proxy %s refused: HTTP status %d %s", e.Proxy, e.Status, http.StatusText(e.Status))
}

func newProxyError(proxy *url.URL, status int, err error) *ProxyError {
	return &ProxyError{proxy.Scheme + "://" + proxy.Host, status, err}
}

// A connectFunc makes a network connection to an address.
type connectFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// tunnel returns a connectFunc that connects through an HTTP proxy by CONNECT
// (RFC 9110 §9.3.6). RFC 6455 §4.1 demands that for ws:// as for wss://: a
// proxy that is sent the request itself does not pass the upgrade on.
func tunnel(connect connectFunc, proxy *url.URL) connectFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := connect(ctx, network, hostPort(proxy))
		if err != nil {
			return nil, newProxyError(proxy, 0, err)
		}
		c := raw
		err = heeding(ctx, raw, func() error {
			if proxy.Scheme == "https" {
				t := tls.Client(raw, proxyTLS(proxy))
				if err := t.HandshakeContext(ctx); err != nil {
					return newProxyError(proxy, 0, err)
				}
				c = t
			}
			return connectVia(c, proxy, addr)
		})
		if err != nil {
			return nil, err
		}
		return c, nil
	}
}

func proxyTLS(proxy *url.URL) *tls.Config {
	cfg := &tls.Config{}
	if c := http.DefaultTransport.(*http.Transport).TLSClientConfig; c != nil {
		cfg = c.Clone()
	}
	cfg.ServerName = proxy.Hostname()
	cfg.NextProtos = nil
	return cfg
}

// connectVia asks the proxy at the other end of c for a connection to addr.
func connectVia(c net.Conn, proxy *url.URL, addr string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(c); err != nil {
		return newProxyError(proxy, 0, err)
	}
	r := bufio.NewReader(&io.LimitedReader{R: c, N: MaxResponseHeader})
	resp, err := http.ReadResponse(r, req)
	switch {
	case err != nil:
		return newProxyError(proxy, 0, err)
	case resp.StatusCode != http.StatusOK:
		return newProxyError(proxy, resp.StatusCode, nil)
	case r.Buffered() > 0:
		return newProxyError(proxy, 0, errors.New("it sent bytes of a server that was not asked yet"))
	}
	return nil
}

// hostPort is the address of a URL, with the port of its scheme if it has none.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// heeding calls f, which reads and writes c, and makes its calls fail when ctx
// ends. It closes c if f fails.
func heeding(ctx context.Context, c net.Conn, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		c.Close()
	}
	return err
}
