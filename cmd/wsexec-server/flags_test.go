package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/server"
)

func parse(args ...string) (options, error) {
	var o options
	app := &cli.App{Flags: flags(&o), Action: func(*cli.Context) error { return nil }, ExitErrHandler: func(*cli.Context, error) {}, DisableSliceFlagSeparator: true}
	return o, app.Run(append([]string{"wsexec-server"}, args...))
}

// Without flags a server has its defaults, those that New gives.
func TestFlagDefaults(t *testing.T) {
	o, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	want := options{cleanup: "auto", logFormat: "text", server: server.Config{
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
	o, err := parse("--listen", "unix:/a,b", "--listen", "127.0.0.1:0", "--max-sessions-per-user", "2", "--max-header", "65536", "--window", "2M", "--host", "a.example")
	if err != nil {
		t.Fatal(err)
	}
	cfg := o.server
	if strings.Join(o.listen, " ") != "unix:/a,b 127.0.0.1:0" || cfg.MaxSessionsPerUser != 2 || cfg.MaxHeader != 64<<10 ||
		cfg.Window != 2<<20 || len(cfg.Hosts) != 1 || cfg.MaxIdle != 3*time.Second || cfg.MaxTimeout != 0 {
		t.Errorf("got %+v", o)
	}
	for args, want := range map[string]string{
		"--max-sessions 0":      "--max-sessions 0 is not a positive number",
		"--max-connections -1":  "--max-connections -1 is not a positive number",
		"--open-timeout 0s":     "--open-timeout 0s is not a positive time",
		"--max-timeout 0s":      "--max-timeout 0s is not a positive time",
		"--max-header 4095":     `--max-header "4095": not between 4KiB and 1MiB`,
		"--max-command 5MiB":    `--max-command "5MiB": not between 4KiB and 4MiB`,
		"--window 1GiBi":        `--window "1GiBi": not a number of bytes`,
		"--history 2G":          `--history "2G": not between 4KiB and 1024MiB`,
		"--host http://a":       `--host "http://a" is not the name of a host`,
		"--log-format yaml":     `--log-format "yaml" is neither text nor json`,
		"--max-header 1x":       `--max-header "1x": not a number of bytes`,
		"--start-timeout -1s":   "--start-timeout -1s is not a positive time",
		"--max-keepalive -10ms": "--max-keepalive -10ms is not a positive time",
	} {
		_, err := parse(strings.Fields(args)...)
		if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), "(see wsexec-server --help)") {
			t.Errorf("%s: %v, want %s", args, err, want)
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
