package idtoken

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"wsexec/internal/issuertest"
	"wsexec/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// verifier believes an issuer, whose requests need no network.
func verifier(t testing.TB, i *issuertest.Issuer, report func(Change)) *Verifier {
	t.Helper()
	v, err := New(Config{Trusts: []Trust{{i.URL, i.Audience}}, Report: report})
	if err != nil {
		t.Fatal(err)
	}
	v.issuers[i.URL].source.client = newClient(i.URL, i)
	return v
}

// ready is a verifier that has the issuer's keys.
func ready(t testing.TB, i *issuertest.Issuer) *Verifier {
	t.Helper()
	v := verifier(t, i, nil)
	set, err := v.issuers[i.URL].source.fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v.issuers[i.URL].keys.Store(set)
	v.issuers[i.URL].began = time.Now()
	return v
}

const issuerURL = "https://issuer.example"

// reasonOf is why a token is refused, "" if it is not.
func reasonOf(t testing.TB, err error) string {
	t.Helper()
	var no *RefusedError
	if err != nil && !errors.As(err, &no) {
		t.Fatalf("the error is %T %v", err, err)
	}
	if no == nil {
		return ""
	}
	return no.Reason
}

func TestVerify(t *testing.T) {
	i := issuertest.New(t, issuerURL)
	v := ready(t, i)
	now := time.Now().Unix()
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"as it should be":          {nil, ""},
		"audience in a list":       {map[string]any{"aud": []string{i.Audience}}, ""},
		"no nbf, no iat":           {map[string]any{"nbf": nil, "iat": nil}, ""},
		"other issuer":             {map[string]any{"iss": issuerURL + "/"}, UnknownIssuer},
		"no issuer":                {map[string]any{"iss": nil}, Malformed},
		"issuer is no text":        {map[string]any{"iss": 1}, Malformed},
		"no subject":               {map[string]any{"sub": nil}, Malformed},
		"other audience":           {map[string]any{"aud": "other"}, OtherAudience},
		"audience by its start":    {map[string]any{"aud": i.Audience + ".evil"}, OtherAudience},
		"audience in other case":   {map[string]any{"aud": strings.ToUpper(i.Audience)}, OtherAudience},
		"another audience besides": {map[string]any{"aud": []string{i.Audience, "other"}}, Malformed},
		"no audience":              {map[string]any{"aud": nil}, Malformed},
		"empty audience":           {map[string]any{"aud": []string{}}, Malformed},
		"expired":                  {map[string]any{"exp": now - 60, "iat": now - 360, "nbf": now - 360}, Expired},
		"no expiry":                {map[string]any{"exp": nil}, Malformed},
		"expiry is a text":         {map[string]any{"exp": fmt.Sprint(now + 60)}, Malformed},
		"expiry in milliseconds":   {map[string]any{"exp": (now + 60) * 1000}, Malformed},
		"expiry is negative":       {map[string]any{"exp": -1}, Malformed},
		"expiry is huge":           {map[string]any{"exp": json.Number("1e400")}, Malformed},
		"not before later":         {map[string]any{"nbf": now + 60}, NotYet},
		"issued later":             {map[string]any{"iat": now + 60}, NotYet},
		"lives long":               {map[string]any{"exp": now + 2*86400}, LivesTooLong},
		"has lived long":           {map[string]any{"iat": now - 30*86400, "nbf": nil}, LivesTooLong},
	} {
		token, err := v.Verify(t.Context(), i.Token(c.claims))
		if got := reasonOf(t, err); got != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if c.want == "" && (token.Issuer != i.URL || token.Subject != "job" || time.Until(token.Expires) > 5*time.Minute) {
			t.Errorf("%s: the token is %+v", name, token)
		}
	}
}

// A number is as it stands in the token, however long it is.
func TestClaimsAreAsInTheToken(t *testing.T) {
	i := issuertest.New(t, issuerURL)
	token, err := ready(t, i).Verify(t.Context(), i.Token(map[string]any{"id": json.Number("12345678901234567890"), "f": json.Number("1e3"), "list": []any{"a"}, "yes": true}))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintln(token.Claims["id"], token.Claims["f"], token.Claims["list"], token.Claims["yes"]); got != "12345678901234567890 1e3 [a] true\n" {
		t.Errorf("the claims are %s", got)
	}
}

// A token that the issuer had made for another use, with the same claims, was accepted.
func TestType(t *testing.T) {
	i := issuertest.New(t, issuerURL)
	v := ready(t, i)
	for _, c := range []struct {
		typ  any // nil: none
		want string
	}{
		{nil, ""}, {"JWT", ""}, {"jwt", ""}, {"Jwt", ""},
		{"at+jwt", OtherType}, {"AT+JWT", OtherType}, {"application/at+jwt", OtherType}, {"logout+jwt", OtherType}, {"dpop+jwt", OtherType}, {"secevent+jwt", OtherType},
		{"", OtherType}, {" JWT", OtherType}, {"JWS", OtherType}, {1, OtherType}, {[]string{"JWT"}, OtherType},
		{json.RawMessage("null"), ""}, // go-jose takes it for none
	} {
		var options jose.SignerOptions
		if c.typ != nil {
			options.WithHeader(jose.HeaderType, c.typ)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.Key()}, &options)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := json.Marshal(i.Claims(nil))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), token); reasonOf(t, err) != c.want {
			t.Errorf("typ %v: %v, want %q", c.typ, err, c.want)
		}
	}
}

// Only signatures by the issuer's key, and by the key's own algorithm, count.
func TestForgeries(t *testing.T) {
	i := issuertest.New(t, issuerURL)
	v := ready(t, i)
	id := i.Key().KeyID
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := i.Key()
	public := key.Public()
	der, err := x509.MarshalPKIXPublicKey(public.Key)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := i.Token(nil)
	parts := strings.Split(good, ".")
	payload, err := json.Marshal(i.Claims(map[string]any{"sub": "another"}))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Split(issuertest.Raw("{}", string(payload), ""), ".")[1]
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: other, KeyID: id}}, &jose.SignerOptions{EmbedJWK: true, ExtraHeaders: map[jose.HeaderKey]any{"kid": id}})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := embedded.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	withKey, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token string
		want  string
	}{
		"another key of that id":     {i.Sign(jose.ES256, jose.JSONWebKey{Key: other, KeyID: id}, i.Claims(nil)), BadSignature},
		"its own key in the header":  {withKey, BadSignature},
		"changed claims":             {parts[0] + "." + changed + "." + parts[2], BadSignature},
		"no signature":               {parts[0] + "." + parts[1] + ".", BadSignature},
		"none":                       {issuertest.Raw(`{"alg":"none","kid":"`+id+`"}`, string(payload), ""), BadAlgorithm},
		"None":                       {issuertest.Raw(`{"alg":"None"}`, string(payload), ""), BadAlgorithm},
		"no algorithm":               {issuertest.Raw(`{"kid":"`+id+`"}`, string(payload), ""), BadAlgorithm},
		"HS256 with the public key":  {i.Sign(jose.HS256, jose.JSONWebKey{Key: asPEM, KeyID: id}, i.Claims(nil)), BadAlgorithm},
		"a critical header":          {issuertest.Raw(`{"alg":"ES256","kid":"`+id+`","crit":["x"],"x":1}`, string(payload), "x"), BadSignature},
		"no key id":                  {i.Sign(jose.ES256, other, i.Claims(nil)), UnknownKey},
		"a key of another algorithm": {issuertest.Raw(`{"alg":"RS256","kid":"`+id+`"}`, string(payload), "x"), KeysNotFetched},
		"claims are a list":          {issuertest.Raw(`{"alg":"ES256","kid":"`+id+`"}`, `[1]`, "x"), Malformed},
		"claims are null":            {issuertest.Raw(`{"alg":"ES256","kid":"`+id+`"}`, `null`, "x"), Malformed},
		"claims twice":               {issuertest.Raw(`{"alg":"ES256","kid":"`+id+`"}`, string(payload)+string(payload), "x"), Malformed},
		"something after it":         {good + " x", Malformed},
		"as JSON":                    {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, Malformed},
		"too long":                   {i.Token(map[string]any{"x": strings.Repeat("x", 16<<10)}), Malformed},
		"empty":                      {"", Malformed},
		"a header that is not one":   {"eyJ.e30.e30", Malformed},
		"deep":                       {issuertest.Raw(`{"alg":"ES256","kid":"`+id+`"}`, `{"a":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+`}`, "x"), Malformed},
	} {
		_, err := v.Verify(t.Context(), c.token)
		if got := reasonOf(t, err); got != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if n := i.Fetches(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

// Each algorithm is accepted by a key for it.
func TestAlgorithms(t *testing.T) {
	i := issuertest.New(t, issuerURL)
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curves := map[jose.SignatureAlgorithm]elliptic.Curve{jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521()}
	for _, by := range algorithms {
		key := any(long)
		if by == jose.EdDSA {
			key = edwards
		}
		if curve := curves[by]; curve != nil {
			if key, err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
				t.Fatal(err)
			}
		}
		i.SetKeys(jose.JSONWebKey{Key: key, KeyID: "k"}) // which says nothing of an algorithm
		if _, err := ready(t, i).Verify(t.Context(), i.Sign(by, i.Key(), i.Claims(nil))); err != nil {
			t.Errorf("%s: %v", by, err)
		}
	}
	i.SetKeys(jose.JSONWebKey{Key: long, KeyID: "k", Algorithm: "RS256"})
	_, err = ready(t, i).Verify(t.Context(), i.Sign(jose.PS256, i.Key(), i.Claims(nil)))
	if reasonOf(t, err) != KeysNotFetched {
		t.Errorf("PS256 with a key for RS256: %v", err)
	}
}

// What is no key for signatures is left out, and what is no key set is an error.
func TestParseKeys(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	marshal := func(k jose.JSONWebKey) string {
		b, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	good := marshal(jose.JSONWebKey{Key: &key.PublicKey, KeyID: "a", Use: "sig"})
	for text, want := range map[string]int{
		`{"keys":[]}`:             0,
		`{"keys":[` + good + `]}`: 1,
		`{"keys":[` + marshal(jose.JSONWebKey{Key: &key.PublicKey, KeyID: "a", Use: "enc"}) + `]}`: 0,
		`{"keys":[` + marshal(jose.JSONWebKey{Key: &key.PublicKey}) + `]}`:                         0,
		`{"keys":[` + marshal(jose.JSONWebKey{Key: key, KeyID: "a"}) + `]}`:                        0,
		`{"keys":[` + marshal(jose.JSONWebKey{Key: []byte("secret"), KeyID: "a"}) + `]}`:           0,
		`{"keys":[` + marshal(jose.JSONWebKey{Key: &weak.PublicKey, KeyID: "a"}) + `]}`:            0,
		`{"keys":[{"kty":"XYZ","kid":"b"},1,"x",null,` + good + `]}`:                               1,
		``:              -1,
		`{}`:            -1,
		`{"keys":null}`: -1,
		`{"keys":"a"}`:  -1,
		`<html>`:        -1,
		`{"keys":[` + strings.Repeat("1,", maxKeys) + `1]}`: -1,
	} {
		set, err := parseKeys([]byte(text), time.Now())
		if want < 0 && err == nil || want >= 0 && (err != nil || set.count != want) {
			t.Errorf("%.80s: %+v, %v; want %d", text, set, err, want)
		}
	}
}

func TestCheckIssuer(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://token.actions.githubusercontent.com": true,
		"https://gitlab.example.com:8443/x":           true,
		"http://127.0.0.1:80":                         true,
		"http://localhost":                            true,
		"http://[::1]:1/":                             true,
		"http://gitlab.example.com":                   false,
		"http://127.0.0.1.example.com":                false,
		"gitlab.com":                                  false,
		"":                                            false,
		"https://":                                    false,
		"ftp://x":                                     false,
		"https://a@gitlab.com":                        false,
		"https://gitlab.com?x":                        false,
		"https://gitlab.com#x":                        false,
	} {
		if err := CheckIssuer(url); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := New(Config{Trusts: []Trust{{"http://x.example", "a"}}}); err == nil {
		t.Error("New takes an issuer without encryption")
	}
}

// One law for all texts: what is accepted says what the issuer has signed, and what is
// refused is so with a reason of bounded length. (The last character of base64 has bits
// that mean nothing, so not only the very text is accepted.)
func FuzzVerify(f *testing.F) {
	i := issuertest.New(f, issuerURL)
	v := ready(f, i)
	good := i.Token(nil)
	want, err := v.Verify(f.Context(), good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(issuertest.Raw(`{"alg":"none"}`, `{}`, ""))
	f.Add("eyJ.eyJ.")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(context.Background(), token)
		if err == nil && !reflect.DeepEqual(got, want) || err != nil && len(err.Error()) > 1000 {
			t.Errorf("%q: %+v, %v", token, got, err)
		}
	})
}

// What a stranger's token costs, by how far it comes.
func BenchmarkVerify(b *testing.B) {
	i := issuertest.New(b, issuerURL)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	es := i.Token(nil)
	esKey := i.Key()
	i.SetKeys(esKey, jose.JSONWebKey{Key: key, KeyID: "rsa", Algorithm: "RS256"})
	v := ready(b, i)
	forged := bytes.Split([]byte(i.Token(nil)), []byte("."))
	for _, c := range []struct{ name, token string }{
		{"ES256", es},
		{"RS256", i.Token(nil)},
		{"forged", string(forged[0]) + "." + string(forged[1]) + "." + strings.Repeat("A", len(forged[2]))},
		{"other issuer", i.Token(map[string]any{"iss": "https://other.example"})},
		{"other audience", i.Token(map[string]any{"aud": "other"})},
		{"longest", i.Token(map[string]any{"iss": "https://other.example", "x": strings.Repeat("x", 11<<10)})},
		{"no token", "eyJ" + strings.Repeat("A", 16<<10) + ".e30.e30"},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				v.Verify(b.Context(), c.token)
			}
		})
	}
}
