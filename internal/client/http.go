package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// maxList bounds the list of sessions in bytes. It has their commands, each of up to
// [proto.MaxOpen].
const maxList = 64 << 20

// readProblem reads the problem document of a refusal, nil if it has none.
func readProblem(resp *http.Response) *proto.Problem {
	if resp.Body == nil || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, proto.MaxControl))
	p := new(proto.Problem)
	if err != nil || json.Unmarshal(b, p) != nil {
		return nil
	}
	return p
}

// Sessions lists the sessions on a server.
func Sessions(ctx context.Context, s Server) ([]proto.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	t.MaxResponseHeaderBytes = link.MaxResponseHeader
	if s.Dial != nil {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx) }
	}
	url := s.URL + "/v1/sessions"
	if rest, ok := strings.CutPrefix(url, "ws"); ok {
		url = "http" + rest
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if s.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.Token)
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, &ConnectError{URL: s.URL, TokenFrom: s.TokenFrom, Err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &ConnectError{URL: s.URL, TokenFrom: s.TokenFrom, Status: resp.StatusCode, Problem: readProblem(resp), Err: fmt.Errorf("the server answered %s", resp.Status)}
	}
	var list struct {
		Sessions []proto.Info `json:"sessions"`
	}
	body := &io.LimitedReader{R: resp.Body, N: maxList}
	err = json.NewDecoder(body).Decode(&list)
	if body.N == 0 {
		err = fmt.Errorf("it is longer than %d MiB", maxList>>20)
	}
	for _, i := range list.Sessions {
		if err == nil && !proto.ValidID(i.ID) {
			err = fmt.Errorf("%.40q is not an id", i.ID) // it becomes part of a URL, and of a command to type
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the server's list of sessions: %w", err)
	}
	return list.Sessions, nil
}
