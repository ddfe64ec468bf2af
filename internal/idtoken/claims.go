package idtoken

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

const (
	// Leeway is how far the clocks of an issuer and of this machine may differ.
	Leeway = 30 * time.Second
	// MaxLife bounds the time from a token's issue, or from now, to its expiry. One that
	// is good for longer is a password that nobody can revoke.
	MaxLife = 24 * time.Hour
)

// claims are those of a token, before its signature is checked.
type claims struct {
	all             map[string]any
	issuer, subject string
	audience        string
	expires         time.Time
	notBefore       time.Time // zero: the token does not say
	issued          time.Time // likewise
}

// parseClaims reads the payload of a token. Of several audiences each could use the
// token to be its bearer at the others, so there has to be one.
func parseClaims(payload []byte) (c claims, err error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&c.all); err != nil {
		return c, err
	}
	if _, err := d.Token(); err != io.EOF || c.all == nil {
		return c, errors.New("its claims are not one JSON object")
	}
	var ok [3]bool
	c.issuer, ok[0] = c.all["iss"].(string)
	c.subject, ok[1] = c.all["sub"].(string)
	c.audience, ok[2] = oneText(c.all["aud"])
	for i, name := range []string{"iss", "sub", "aud"} {
		if !ok[i] {
			return c, fmt.Errorf("it has no %s that is one text", name)
		}
	}
	for name, to := range map[string]*time.Time{"exp": &c.expires, "nbf": &c.notBefore, "iat": &c.issued} {
		v, there := c.all[name]
		if !there && name != "exp" {
			continue
		}
		if *to, there = date(v); !there {
			return c, fmt.Errorf("it has no %s that is a time", name)
		}
	}
	return c, nil
}

// oneText is a text, alone or in a list of one.
func oneText(v any) (string, bool) {
	if list, ok := v.([]any); ok && len(list) == 1 {
		v = list[0]
	}
	text, ok := v.(string)
	return text, ok && text != ""
}

// date is a claim in seconds since 1970 (RFC 7519 §2, NumericDate), before the year 2554:
// later ones are none, and those in milliseconds are not either.
func date(v any) (time.Time, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := n.Float64()
	if err != nil || seconds < 1 || seconds > 1<<34 {
		return time.Time{}, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}

// check says what keeps a token from being accepted at a time by what it says.
func (c *claims) check(audiences []string, now time.Time) *RefusedError {
	since := func(t time.Time) time.Duration { return now.Sub(t).Round(time.Second) }
	switch {
	case !slices.Contains(audiences, c.audience):
		return refused(OtherAudience, "%s is no --oidc-audience of that issuer", short(c.audience))
	case !now.Before(c.expires.Add(Leeway)):
		return refused(Expired, "%v ago", since(c.expires))
	case now.Before(c.notBefore.Add(-Leeway)):
		return refused(NotYet, "its nbf is in %v", -since(c.notBefore))
	case now.Before(c.issued.Add(-Leeway)):
		return refused(NotYet, "its iat is in %v", -since(c.issued))
	}
	begin := now
	if !c.issued.IsZero() && c.issued.Before(now) {
		begin = c.issued
	}
	if life := c.expires.Sub(begin); life > MaxLife+Leeway {
		return refused(LivesTooLong, "for %v, of at most %v", life.Round(time.Second), MaxLife)
	}
	return nil
}
