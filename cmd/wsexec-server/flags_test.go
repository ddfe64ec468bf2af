package main

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/cmdline"
	"wsexec/internal/server"
)

// parse reads flags as the program does, and serves nothing.
func parse(args ...string) (options, error) {
	var o options
	app := newApp(&o)
	app.Action = func(*cli.Context) error { return nil }
	args, _, err := cmdline.Split(app, append([]string{"wsexec-server"}, args...))
	if err == nil {
		err = app.Run(args)
	}
	return o, err
}

// Without flags a server has its defaults, those that New gives.
func TestFlagDefaults(t *testing.T) {
	o, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	want := options{full: "refuse", socketMode: 0o600, cleanup: "auto", logFormat: "text", server: server.Config{
		MaxSessions: server.DefaultMaxSessions, MaxConnections: server.DefaultMaxConnections,
		OpenTimeout: server.DefaultOpenTimeout, StartTimeout: server.DefaultStartTimeout,
		MaxHeader: server.DefaultMaxHeader, MaxCommand: server.DefaultMaxCommand, OpenMemory: server.DefaultOpenMemory,
		MaxLinger: server.DefaultMaxLinger, KillAfter: server.DefaultKillAfter, MaxKillAfter: server.DefaultMaxKillAfter,
		MaxKeepalive: server.DefaultMaxKeepalive, MaxDrain: server.DefaultMaxDrain,
		Window: server.DefaultWindow, History: server.DefaultHistory,
	}}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got %+v, want %+v", o, want)
	}
}

func TestFlags(t *testing.T) {
	t.Setenv("WSEXEC_SERVER_MAX_IDLE_TIMEOUT", "3s")
	o, err := parse("--listen", "unix:/a,b", "--listen", "127.0.0.1:0", "--max-sessions-per-user", "2", "--max-header", "65536", "--window", "2M", "--host", "a.example", "--trusted-proxy", "192.0.2.1", "--trusted-proxy", "2001:db8::/32")
	if err != nil {
		t.Fatal(err)
	}
	cfg := o.server
	if strings.Join(o.listen, " ") != "unix:/a,b 127.0.0.1:0" || cfg.MaxSessionsPerUser != 2 || cfg.MaxHeader != 64<<10 ||
		cfg.Window != 2<<20 || len(cfg.Hosts) != 1 || cfg.MaxIdle != 3*time.Second || cfg.MaxTimeout != 0 {
		t.Errorf("got %+v", o)
	}
	if got := fmt.Sprint(cfg.TrustedProxies); got != "[192.0.2.1/32 2001:db8::/32]" {
		t.Errorf("the trusted proxies are %s", got)
	}
	for args, want := range map[string]string{
		"--max-sessions 0":                "--max-sessions 0: a whole number is needed, 1 or more",
		"--max-sessions ten":              "--max-sessions ten: a whole number is needed, 1 or more",
		"--max-connections -1":            "--max-connections -1: a whole number is needed, 1 or more",
		"--open-timeout 0s":               "--open-timeout 0s: the time must be longer than 0s",
		"--max-timeout 0":                 "--max-timeout 0: the time must be longer than 0s",
		"--max-linger 10":                 "--max-linger 10: a time needs a unit, such as 10s",
		"--max-linger ten":                "--max-linger ten: a time is a number and a unit of h, m, s or ms, such as 200ms, 5s or 1h30m",
		"--max-header 4095":               "--max-header 4095: the least is 4KiB, the most 1MiB",
		"--max-command 5MiB":              "--max-command 5MiB: the least is 4KiB, the most 4MiB",
		"--window 1GiBi":                  "--window 1GiBi: a number of bytes is needed, such as 65536, 64KiB or 1MiB",
		"--history 2G":                    "--history 2G: the least is 4KiB, the most 1GiB",
		"--host http://a":                 "--host http://a: that is not the name of a host, such as exec.example.org",
		"--trusted-proxy proxy":           "--trusted-proxy proxy: that is neither an address nor a network, such as 192.0.2.1 or 10.0.0.0/8",
		"--trusted-proxy 10.0.0.0/33":     "--trusted-proxy 10.0.0.0/33: that is neither an address nor a network, such as 192.0.2.1 or 10.0.0.0/8",
		"--trusted-proxy 10.1.0.0/8":      "--trusted-proxy 10.1.0.0/8: the network is 10.0.0.0/8",
		"--trusted-proxy fe80::1%eth0":    "--trusted-proxy fe80::1%eth0: that is neither an address nor a network, such as 192.0.2.1 or 10.0.0.0/8",
		"--trusted-proxy ::ffff:10.0.0.1": "--trusted-proxy ::ffff:10.0.0.1: an address of IPv4 is written as such: 192.0.2.1 or 10.0.0.0/8",
		"--trusted-proxy ::/0":            "--trusted-proxy ::/0: that is every address, so that anybody could write any into the log",
		"--log-format yaml":               "--log-format yaml: the choices are text, json",
		"--log-level loud":                "--log-level loud: the choices are debug, info, warn, error",
		"--cleanup foo":                   "--cleanup foo: the choices are auto, cgroup, walk",
		"--max-header 1x":                 "--max-header 1x: a number of bytes is needed, such as 65536, 64KiB or 1MiB",
		"--start-timeout -1s":             "--start-timeout -1s: the time must be longer than 0s",
		"--max-keepalive -10ms":           "--max-keepalive -10ms: the time must be longer than 0s",
	} {
		_, err := parse(strings.Fields(args)...)
		if err == nil || err.Error() != want+" (see wsexec-server --help)" {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

// A variable with a bad value was named as the flag; and a flag goes before it.
func TestVariables(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"WSEXEC_SERVER_MAX_SESSIONS", "0", "a whole number is needed, 1 or more"},
		{"WSEXEC_SERVER_MAX_LINGER", "10", "a time needs a unit, such as 10s"},
		{"WSEXEC_SERVER_HOST", "a/b", "that is not the name of a host, such as exec.example.org"},
	} {
		t.Setenv(tt.name, tt.value)
		_, err := parse()
		if want := tt.name + " " + tt.value + ": " + tt.want + " (see wsexec-server --help)"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		os.Unsetenv(tt.name)
	}
	t.Setenv("WSEXEC_SERVER_INSECURE_PLAINTEXT", "perhaps")
	if _, err := parse(); err == nil || !strings.HasPrefix(err.Error(), "WSEXEC_SERVER_INSECURE_PLAINTEXT perhaps: ") {
		t.Errorf("%v, want the variable named", err)
	}
	os.Unsetenv("WSEXEC_SERVER_INSECURE_PLAINTEXT")
	t.Setenv("WSEXEC_SERVER_LISTEN", "127.0.0.1:1,x")
	t.Setenv("WSEXEC_SERVER_MAX_SESSIONS", "3")
	if o, err := parse(); err != nil || !reflect.DeepEqual(o.listen, []string{"127.0.0.1:1,x"}) || o.server.MaxSessions != 3 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse("--listen", "a:2", "--max-sessions=4", "--listen", "a:3"); err != nil || !reflect.DeepEqual(o.listen, []string{"a:2", "a:3"}) || o.server.MaxSessions != 4 {
		t.Errorf("%+v, %v", o, err)
	}
}

// The help was one block of lines of up to 240 columns.
func TestHelp(t *testing.T) {
	grouped := map[string]int{}
	for _, g := range flagGroups {
		for _, name := range g.Flags {
			grouped[name]++
		}
	}
	for _, f := range append(flags(new(options)), cli.VersionFlag, cli.HelpFlag) {
		if name := f.Names()[0]; grouped[name] != 1 {
			t.Errorf("--%s stands %d times in flagGroups, want once", name, grouped[name])
		}
		delete(grouped, f.Names()[0])
	}
	if len(grouped) > 0 {
		t.Errorf("no flags are called so: %v", grouped)
	}
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Aliases: []string{"h"}}
	var out bytes.Buffer
	cmdline.Printer(flagGroups)(&out, "", newApp(new(options)))
	for l := range strings.Lines(out.String()) {
		if len(l) > cmdline.Width+1 {
			t.Errorf("%d columns: %s", len(l)-1, l)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for _, n := range []int64{4 << 10, 64 << 10, 1 << 20, 32 << 20, 1 << 30} {
		if got, err := parseBytes(formatBytes(n), 1<<30); got != n || err != nil {
			t.Errorf("%d is written as %s and read as %d, %v", n, formatBytes(n), got, err)
		}
	}
}

// An empty value is a mistake of every flag, and of a variable none at all.
func TestEmptyValues(t *testing.T) {
	want, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range flags(new(options)) {
		name := f.Names()[0]
		t.Setenv(variable(name)[0], "")
		if f.(cli.DocGenerationFlag).TakesValue() {
			n++
			if _, err := parse("--"+name, ""); err == nil || !strings.HasPrefix(err.Error(), "--"+name+" is empty, and needs a value, as in --"+name+" ") {
				t.Errorf("--%s: %v", name, err)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d flags with a value were found", n)
	}
	unsetEmpty()
	if o, err := parse(); err != nil || !reflect.DeepEqual(o, want) {
		t.Errorf("with empty variables: %+v, %v", o, err)
	}
}
