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

// A ProxyError is the refusal of an HTTP proxy to connect to the server.
type ProxyError struct {
	Proxy  string // its URL, without user and password
	Status int    // of its HTTP response
}

func (e *ProxyError) Error() string {
	return fmt.Sprintf("the proxy %s refused: HTTP status %d %s", e.Proxy, e.Status, http.StatusText(e.Status))
}

func newProxyError(proxy *url.URL, status int) *ProxyError {
	return &ProxyError{proxy.Scheme + "://" + proxy.Host, status}
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
			return nil, &net.OpError{Op: "proxyconnect", Net: network, Err: err} // net/http's name for it
		}
		c := raw
		err = heeding(ctx, raw, func() error {
			if proxy.Scheme == "https" {
				t := tls.Client(raw, proxyTLS(proxy))
				if err := t.HandshakeContext(ctx); err != nil {
					return &net.OpError{Op: "proxyconnect", Net: network, Err: err}
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
		return fmt.Errorf("the proxy %s://%s: %w", proxy.Scheme, proxy.Host, err)
	}
	r := bufio.NewReader(&io.LimitedReader{R: c, N: MaxResponseHeader})
	resp, err := http.ReadResponse(r, req)
	switch {
	case err != nil:
		return fmt.Errorf("the proxy %s://%s: %w", proxy.Scheme, proxy.Host, err)
	case resp.StatusCode != http.StatusOK:
		return newProxyError(proxy, resp.StatusCode)
	case r.Buffered() > 0:
		return fmt.Errorf("the proxy %s://%s sent bytes of a server that was not asked yet", proxy.Scheme, proxy.Host)
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
