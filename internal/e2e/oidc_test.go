//go:build linux

package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"wsexec/internal/issuertest"
)

// Jobs of a CI, which the server knows by the tokens of an issuer.

// leeway is the one of the server for the clocks of issuers.
const leeway = 30 * time.Second

// A jobServer is a server that believes an issuer.
type jobServer struct {
	policyServer
	issuer *issuertest.Issuer
}

// job are the claims of the job that the policies of these tests let in.
var job = map[string]any{"repository_id": "42", "ref": "refs/heads/main"}

// letsIn is a policy that lets the job run commands.
func letsIn(commands ...string) string {
	return "[principals.ci]\noidc = { repository_id = '42', ref = 'refs/heads/*' }\n[[allow]]\nwho = ['ci', 'owner']\ndetach = true\nothers = true\nenv = ['X']\ncommands = [" + quotedList(commands) + "]\n"
}

// startJobs starts a server and an issuer, and waits until it has the issuer's keys.
func startJobs(t testing.TB, policy string, args ...string) jobServer {
	t.Helper()
	s := jobServer{issuer: issuertest.Start(t)}
	s.policyServer = startPolicy(t, policy, append([]string{"--oidc-issuer", s.issuer.URL, "--oidc-audience", s.issuer.Audience}, args...)...)
	s.awaitLine(t, "issuer reached")
	return s
}

// jobToken is a token of the job, with other claims besides or instead.
func (s jobServer) jobToken(others map[string]any) string {
	claims := maps.Clone(job)
	maps.Copy(claims, others)
	return s.issuer.Token(claims)
}

// runAs runs a command with a token in the variable TOKEN.
func (s jobServer) runAs(t testing.TB, token string, args ...string) result {
	t.Helper()
	cmd := s.wsexec(append([]string{"run", "--oidc", "env:TOKEN"}, args...)...)
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "TOKEN="+token)
	return capture(t, cmd)
}

// Of an issuer's tokens those are let in that are for this server, now, and for a
// principal of the policy. All others get the same answer. The log says why.
func TestJobsByToken(t *testing.T) {
	t.Parallel()
	s := startJobs(t, letsIn(realPath(t, "echo")+" **"), "--audit-log", "audit")
	isAllowed(t, s.runAs(t, s.jobToken(nil), "echo", "hi"), "hi\n")
	start := awaitAudit(t, filepath.Join(s.dir, "audit"), map[string]any{"event": "start"})
	if start.text("principal") != "ci" || start.text("how") != "oidc" || start.text("credential") != s.issuer.URL+" job" {
		t.Errorf("the audit log has %v", start)
	}
	if r := s.runAs(t, s.jobToken(nil), "id"); r.status != 125 || !strings.Contains(r.stderr, "the server's policy does not allow this") {
		t.Errorf("%v", r)
	}
	isAllowed(t, s.run(t, "echo", "owner"), "owner\n")

	key := s.issuer.Key()
	public := key.Public()
	pub, err := json.Marshal(public)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	payload, err := json.Marshal(s.issuer.Claims(job))
	if err != nil {
		t.Fatal(err)
	}
	another := issuertest.Start(t)
	good := s.jobToken(nil)
	tokens := []string{good}
	// The log has one line of each reason in a minute.
	for _, c := range []struct{ name, token, says string }{
		{"audience", s.jobToken(map[string]any{"aud": "other.example.com"}), `reason="the token is for another audience" peer=127.0.0.1:\d+ detail="\\"other.example.com\\" is no --oidc-audience of that issuer"`},
		{"two audiences", s.jobToken(map[string]any{"aud": []string{s.issuer.Audience, "other"}}), `reason="the token cannot be read" .*detail="it has no aud that is one text"`},
		{"another ref", s.jobToken(map[string]any{"ref": "refs/tags/v1"}), `reason="no principal of the policy has the token's claims" .*\\"ci\\" wants ref = \\"refs/heads/\*\\", and the token has \\"refs/tags/v1\\"; it has iss=.* sub=\\"job\\" repository_id=\\"42\\" ref=`},
		{"no repository", s.jobToken(map[string]any{"repository_id": nil}), ""},
		{"expired", s.jobToken(map[string]any{"exp": at(-3 * time.Minute), "iat": at(-8 * time.Minute), "nbf": at(-8 * time.Minute)}), `reason="the token of the issuer has expired" .*detail="3m\d+s ago"`},
		{"not yet", s.jobToken(map[string]any{"nbf": at(time.Hour)}), `reason="the token is not valid yet" .*its nbf is in (1h0m0s|59m\d+s)`},
		{"for years", s.jobToken(map[string]any{"exp": at(9000 * time.Hour)}), `reason="the token is valid for too long" .*of at most 24h`},
		{"another issuer", another.Token(job), `reason="the token is of another issuer" .*` + another.URL},
		{"none", issuertest.Raw(`{"alg":"none"}`, string(payload), ""), `reason="the token is signed by an algorithm that is not accepted" .*none`},
		{"HS256 with the public key", s.issuer.Sign(jose.HS256, jose.JSONWebKey{Key: pub, KeyID: key.KeyID}, s.issuer.Claims(job)), ""},
		{"another's key", another.Sign(jose.ES256, jose.JSONWebKey{Key: another.Key().Key, KeyID: key.KeyID}, s.issuer.Claims(job)), `reason="the token's signature is wrong"`},
		{"no signature", good[:strings.LastIndex(good, ".")+1], ""},
	} {
		tokens = append(tokens, c.token)
		r := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+c.token)
		if want := `{"type":"about:blank","title":"the token is not accepted, and the server's log says why","status":401}` + "\n"; r.status != http.StatusUnauthorized || r.body != want {
			t.Errorf("%s: %d %s", c.name, r.status, r.body)
		}
		if says := regexp.MustCompile(`level=WARN msg=refused .*` + c.says); c.says != "" && poll(patience, func() error { return matches(says, s.log.String()) }) != nil {
			t.Errorf("%s: no line matches %s", c.name, says)
		}
	}
	// A person sees one line.
	s.runAs(t, s.jobToken(map[string]any{"aud": "other"}), "echo", "hi").wantComplaint(t, 125, "the token is not accepted, and the server's log says why")
	// No token is said.
	audit, err := os.ReadFile(filepath.Join(s.dir, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		for part := range strings.SplitSeq(token, ".") {
			if len(part) > 40 && (strings.Contains(s.log.String(), part) || strings.Contains(string(audit), part)) {
				t.Errorf("a part of a token is in a log: %s", part)
			}
		}
	}
}

func matches(pattern *regexp.Regexp, text string) error {
	if !pattern.MatchString(text) {
		return errors.New(text)
	}
	return nil
}

// The tokens of a job live for two seconds, and the connection is cut every second. The
// command is started once, and every byte comes both ways.
func TestJobOutlivesItsTokens(t *testing.T) {
	t.Parallel()
	s := startJobs(t, letsIn(realPath(t, "sh")+" **"))
	var mu sync.Mutex
	var issued []string
	issue := func() string {
		token := s.jobToken(map[string]any{"exp": time.Now().Add(2*time.Second - leeway).Unix(), "iat": time.Now().Add(-time.Minute).Unix(), "nbf": nil})
		mu.Lock()
		defer mu.Unlock()
		issued = append(issued, token)
		return token
	}
	r := s.relay(t, nil)
	flags := []string{"--oidc", "github", "--oidc-audience", s.issuer.Audience}
	res, said, seconds := s.runOverCuts(t, r.url, flags, gitHub(t, s.issuer.Audience, "request-secret", issue), func(*client) { r.harm(reset) })
	mu.Lock()
	defer mu.Unlock()
	if len(issued) < seconds/2 {
		t.Errorf("%d tokens in %d s", len(issued), seconds)
	}
	// The first one has expired long ago.
	if first := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+issued[0]); first.status != http.StatusUnauthorized {
		t.Errorf("the first token: %d", first.status)
	}
	for _, token := range issued {
		if strings.Contains(res.stderr+said+s.log.String(), token) {
			t.Errorf("a token is said: %s", res.stderr)
		}
	}
}

// A connection stays when its token expires. When the policy has no rule for the principal
// any more, or the principal is another job, the connection is closed and its session
// ended.
func TestJobLeavesThePolicy(t *testing.T) {
	t.Parallel()
	policy := letsIn(realPath(t, "sh") + " **")
	for name, later := range map[string]string{
		"no rule":     "[principals.ci]\noidc = { repository_id = '42' }\n",
		"another job": strings.Replace(policy, "'42'", "'43'", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startJobs(t, policy)
			expires := time.Now().Add(2 * time.Second)
			cmd := s.wsexec("run", "--oidc", "env:TOKEN", "sh", "-c", "echo ready; cat; sleep 1000")
			cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "TOKEN="+s.jobToken(map[string]any{"exp": expires.Add(-leeway).Unix(), "iat": expires.Add(-time.Minute).Unix(), "nbf": nil}))
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			c := startClient(t, cmd)
			c.expect(t, "ready\n")
			time.Sleep(time.Until(expires.Add(2 * time.Second))) // some looks for what is revoked
			io.WriteString(in, "still here\n")
			c.expect(t, "still here\n")
			s.reload(t, later, "the policy was read")
			if r := c.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "access was revoked") {
				t.Errorf("%v", r)
			}
			s.reload(t, policy, "the policy was read")
			s.awaitNoSession(t)
		})
	}
}

// An issuer that is away keeps the server from nothing: it starts, others are let in, and
// a job is let in once the issuer is back. Until then its client is told to come again.
func TestIssuerIsAway(t *testing.T) {
	t.Parallel()
	s := jobServer{issuer: issuertest.Start(t)}
	s.issuer.Misbehave(issuertest.Away)
	s.policyServer = startPolicy(t, letsIn(realPath(t, "echo")+" **"), "--oidc-issuer", s.issuer.URL, "--oidc-audience", s.issuer.Audience)
	s.awaitLine(t, `level=WARN msg="issuer away" issuer=`+s.issuer.URL+` error="its configuration: 503 Service Unavailable: away`)
	isAllowed(t, s.run(t, "echo", "owner"), "owner\n")
	r := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+s.jobToken(nil))
	if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, `"title":"the token cannot be checked now"`) {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	s.runAs(t, s.jobToken(nil), "echo", "hi").wantComplaint(t, 125, "the token cannot be checked now")
	cmd := s.wsexec("run", "--oidc", "env:TOKEN", "--wait", "1h", "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "TOKEN="+s.jobToken(nil))
	c := startClient(t, cmd)
	s.issuer.Misbehave(nil)
	s.awaitLine(t, `level=INFO msg="issuer reached" issuer=`+s.issuer.URL+" keys=1")
	c.wait(t, patience).want(t, 0, "hi\n", "")
	if n := strings.Count(s.log.String(), `msg="issuer away"`); n != 1 {
		t.Errorf("the log says %d times that it is away", n)
	}
}

// An issuer is reached by https, through the proxy of the environment, and believed if an
// authority of the system has signed its certificate.
func TestIssuerByHTTPS(t *testing.T) {
	t.Parallel()
	i := issuertest.New(t, "https://issuer.invalid")
	for _, trusted := range []bool{true, false} {
		t.Run(fmt.Sprintf("trusted=%v", trusted), func(t *testing.T) {
			s := jobServer{policyServer: policyServer{server: newServer(t)}, issuer: i}
			s.tlsInit(t, "--host", "issuer.invalid", "--dir", "issuer")
			s.tlsInit(t, "--host", "issuer.invalid", "--dir", "another")
			pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "issuer/cert.pem"), filepath.Join(s.dir, "issuer/key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			secure := httptest.NewUnstartedServer(i)
			secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // a certificate that is not believed
			secure.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			secure.StartTLS()
			defer secure.Close()
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodConnect || r.RequestURI != "issuer.invalid:443" {
					t.Errorf("the proxy is asked for %s %s", r.Method, r.RequestURI)
				}
				join(w, secure.Listener.Addr().String())
			}))
			defer proxy.Close()
			authority := "issuer"
			if !trusted {
				authority = "another"
			}
			s.file = filepath.Join(s.dir, "policy.toml")
			s.write(t, letsIn(realPath(t, "echo")+" **"))
			s.start(t, serverOptions{
				args: []string{"--policy", s.file, "--oidc-issuer", i.URL, "--oidc-audience", i.Audience},
				env:  []string{"HTTPS_PROXY=" + proxy.URL, "NO_PROXY=", "SSL_CERT_DIR=/nonexistent", "SSL_CERT_FILE=" + filepath.Join(s.dir, authority, "cert.pem")},
			})
			s.awaitListening(t)
			if !trusted {
				s.awaitLine(t, `msg="issuer away" issuer=https://issuer.invalid error="https://issuer.invalid/.well-known/openid-configuration: tls: failed to verify certificate: x509: `)
				return
			}
			s.awaitLine(t, "issuer reached")
			isAllowed(t, s.runAs(t, s.jobToken(nil), "echo", "hi"), "hi\n")
		})
	}
}

// Strangers with tokens of keys that are not there make the server ask the issuer once in
// ten seconds, and hold up nobody.
func TestStrangersKeys(t *testing.T) {
	t.Parallel()
	s := startJobs(t, letsIn(realPath(t, "echo")+" **"))
	isAllowed(t, s.runAs(t, s.jobToken(nil), "echo", "hi"), "hi\n") // so that answers to this address are not slowed
	var tokens []string
	for n := range 400 {
		tokens = append(tokens, s.issuer.Sign(jose.ES256, jose.JSONWebKey{Key: s.issuer.Key().Key, KeyID: fmt.Sprint("random", n)}, s.issuer.Claims(job)))
	}
	began := time.Now()
	each(t, len(tokens), 16, func(i int) error {
		if r := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+tokens[i]); r.status != http.StatusUnauthorized && r.status != http.StatusServiceUnavailable {
			return fmt.Errorf("%d %s", r.status, r.body)
		}
		return nil
	})
	if n, most := s.issuer.Fetches(), 2+int(time.Since(began)/(10*time.Second)); n > most {
		t.Errorf("the keys were fetched %d times in %v, want %d at most", n, time.Since(began), most)
	}
	isAllowed(t, s.runAs(t, s.jobToken(nil), "echo", "hi"), "hi\n")
	// A new key, which the server does not know yet.
	s.issuer.Rotate()
	time.Sleep(10 * time.Second)
	isAllowed(t, s.runAs(t, s.jobToken(nil), "echo", "hi"), "hi\n")
}

// What the flags and the policy say of issuers has to fit together.
func TestMistakesAboutIssuers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	policy := s.writeFile(t, "policy.toml", letsIn("/bin/true"), 0o600)
	tcp := []string{"--listen", "127.0.0.1:0", "--policy", policy}
	const gitHub, gitLab = "https://github.invalid", "https://gitlab.invalid"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{append(tcp, "--oidc-issuer", gitHub), []string{"--oidc-issuer " + gitHub + " has no --oidc-audience", "--oidc-audience NAME"}},
		{append(tcp, "--oidc-audience", "a"), []string{"--oidc-audience a has no --oidc-issuer"}},
		{append(tcp, "--oidc-issuer", gitHub, "--oidc-audience", "a", "--oidc-issuer", gitLab), []string{"--oidc-issuer " + gitLab + " has no --oidc-audience"}},
		{append(tcp, "--oidc-issuer", "http://gitlab.com", "--oidc-audience", "a"), []string{"--oidc-issuer", "is not https"}},
		{append(tcp, "--oidc-issuer", "gitlab.com", "--oidc-audience", "a"), []string{"is not the URL of an issuer"}},
		{append(tcp, "--oidc-issuer", gitHub, "--oidc-audience", "a b"), []string{"is not an audience"}},
		{[]string{"--listen", "127.0.0.1:0", "--oidc-issuer", gitHub, "--oidc-audience", "a"}, []string{"--oidc-issuer lets in", "any job of that issuer", "say --policy FILE", "oidc = {repository_id = '123456'}"}},
		{[]string{"--policy", policy, "--oidc-issuer", gitHub, "--oidc-audience", "a"}, []string{"--oidc-issuer is for TCP"}},
		{append(tcp, "--oidc-issuer", gitHub, "--oidc-audience", "a", "--oidc-issuer", gitLab, "--oidc-audience", "a"), []string{policy + ":2: there are several --oidc-issuer", `"ci"`, `say iss = "https://`}},
	} {
		f := newServer(t)
		f.start(t, serverOptions{bare: true, args: c.args})
		if status := f.waitExit(t, patience); status != 1 {
			t.Errorf("%q: status %d", c.args, status)
		}
		checkComplaint(t, "wsexec-server", f.log.String(), c.want...)
	}
}

// Of several issuers each is believed for its own audience, and for the principals that
// name it.
func TestSeveralIssuers(t *testing.T) {
	t.Parallel()
	one, two := issuertest.Start(t), issuertest.Start(t)
	two.Audience = "two.example.com"
	policy := fmt.Sprintf("[principals.one]\noidc = { iss = '%s', repository_id = '42' }\n[principals.two]\noidc = { iss = '%s', project_id = '42' }\n[[allow]]\nwho = ['one', 'two']\ncommands = ['%s **']\n", one.URL, two.URL, realPath(t, "echo"))
	s := jobServer{issuer: one}
	s.policyServer = startPolicy(t, policy, "--oidc-issuer", one.URL, "--oidc-audience", one.Audience, "--oidc-issuer", two.URL, "--oidc-audience", two.Audience, "--oidc-issuer", two.URL, "--oidc-audience", "three.example.com")
	eventually(t, patience, "both issuers are reached", func() error {
		if n := strings.Count(s.log.String(), "issuer reached"); n != 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	both := map[string]any{"repository_id": "42", "project_id": "42"}
	with := func(i *issuertest.Issuer, audience string) string {
		claims := i.Claims(both)
		claims["aud"] = audience
		return i.Sign(jose.ES256, i.Key(), claims)
	}
	for token, ok := range map[string]bool{
		with(one, one.Audience):        true,
		with(two, two.Audience):        true,
		with(two, "three.example.com"): true,
		with(one, two.Audience):        false,
		with(two, one.Audience):        false,
		two.Sign(jose.ES256, jose.JSONWebKey{Key: two.Key().Key, KeyID: "other"}, one.Claims(both)): false,
	} {
		if r := s.runAs(t, token, "echo", "hi"); (r.status == 0) != ok {
			t.Errorf("%v, want %v", r, ok)
		}
	}
	for _, who := range []string{"one", "two"} {
		if !strings.Contains(s.log.String(), "principal="+who+" ") {
			t.Errorf("the log has no %s", who)
		}
	}
	// At SIGHUP, too.
	s.reload(t, letsIn("/bin/true"), "the policy that was read before stays")
	if !strings.Contains(s.log.String(), "there are several --oidc-issuer") {
		t.Errorf("it is not said why")
	}
}

// The steps of docs/server.md, as they stand there, but for the names of hosts.
func TestJobsPage(t *testing.T) {
	t.Parallel()
	_, page, _ := strings.Cut(document(t, "docs/server.md"), "\n## Jobs of a CI\n")
	page = strings.ReplaceAll(page, "\n   ", "\n") // blocks are indented
	block := func(text, language string) string {
		_, rest, _ := strings.Cut(text, "```"+language+"\n")
		content, _, ok := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("there is no block of %s", language)
		}
		return content
	}
	flags := regexp.MustCompile(`--policy policy\.toml (--oidc-issuer) (https://\S+) (--oidc-audience) (\S+)` + "`")
	command := regexp.MustCompile(`(?m)- (?:run: )?wsexec (run --server )wss://(\S+):9022 (.*)$`)
	for _, c := range []struct {
		heading, issuer string
		claims          map[string]any // of its tokens, which the policy names
	}{
		{"### GitHub Actions", "https://token.actions.githubusercontent.com", map[string]any{"repository_id": "123456", "ref": "refs/heads/main"}},
		{"### GitLab CI", "https://gitlab.com", map[string]any{"project_id": "123456", "ref_type": "branch", "ref": "main", "ref_protected": "true"}},
	} {
		t.Run(c.heading, func(t *testing.T) {
			_, text, _ := strings.Cut(page, c.heading+"\n")
			f, run := flags.FindStringSubmatch(text), command.FindStringSubmatch(block(text, "yaml"))
			if f == nil || f[2] != c.issuer || run == nil || run[2] != f[4] {
				t.Fatalf("the flags are %q, the command %q", f, run)
			}
			s := jobServer{issuer: issuertest.Start(t)}
			s.issuer.Audience = f[4]
			s.policyServer = startPolicy(t, block(text, "toml"), f[1], s.issuer.URL, f[3], f[4])
			check := exec.Command(serverBin, "policy", "check", s.file)
			check.Env = s.environment()
			capture(t, check).want(t, 0, s.file+" is sound\n", "")
			cmd := s.bash("exec wsexec " + run[1] + s.url + " " + run[3])
			cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "WSEXEC_OIDC_AUDIENCE="+f[4], "WSEXEC_ID_TOKEN="+s.issuer.Token(c.claims))
			cmd.Env = append(cmd.Env, gitHub(t, f[4], "secret", func() string { return s.issuer.Token(c.claims) })...)
			if r := capture(t, cmd); r.status != 0 || !strings.HasPrefix(r.stdout, "Linux ") {
				t.Errorf("%v", r)
			}
			for name := range c.claims { // each is needed
				others := maps.Clone(c.claims)
				others[name] = "other"
				if r := s.runAs(t, s.issuer.Token(others), "uname", "-a"); r.status != 125 {
					t.Errorf("with another %s: %v", name, r)
				}
			}
		})
	}
}
