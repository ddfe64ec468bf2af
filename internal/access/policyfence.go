package access

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A Warning is something in a policy that keeps nobody from more than it seems to
// allow.
type Warning struct {
	Line   int
	Reason string
}

// A leak is how programs of some names run others, or write any file.
type leak struct {
	names  []string
	always bool // with any arguments; otherwise where the client chooses some
	how    string
}

// leaks are the programs that are commonly let through in the belief that they
// do one thing. The list helps the author of a policy, and confines nobody.
var leaks = []leak{
	{[]string{"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "rbash", "busybox", "toybox", "pwsh"}, false, "a shell runs any command"},
	{[]string{"python", "perl", "ruby", "node", "nodejs", "deno", "bun", "php", "lua", "luajit", "awk", "gawk", "mawk", "nawk", "tclsh", "wish", "expect", "guile", "Rscript", "julia", "java", "jshell", "osascript", "emacs", "gdb", "lldb", "sqlite3", "psql", "mysql"}, false, "an interpreter runs any code"},
	{[]string{"env", "xargs", "nice", "nohup", "timeout", "time", "stdbuf", "setsid", "setpriv", "chroot", "unshare", "nsenter", "sudo", "doas", "su", "runuser", "watch", "parallel", "strace", "ltrace", "perf", "script", "screen", "tmux", "systemd-run", "at", "batch", "ionice", "chrt", "taskset", "prlimit", "setarch", "flock", "entr", "faketime", "fakeroot", "start-stop-daemon", "wsexec", "coreutils"}, false, "it runs the command that its arguments name"},
	{[]string{"find"}, false, "-exec runs any command, -fprintf writes any file"},
	{[]string{"git"}, true, "hooks, aliases and settings of the repository run commands, and so do options such as -c and --upload-pack"},
	{[]string{"hg", "svn"}, true, "hooks and settings of the repository run commands"},
	{[]string{"make", "gmake", "ninja", "cmake", "cargo", "go", "npm", "npx", "yarn", "pnpm", "pip", "pip3", "mvn", "gradle", "bundle", "rake", "tox", "poetry", "uv", "just", "bazel"}, true, "it runs what the files of its directory say"},
	{[]string{"rsync"}, false, "-e runs any command, and any file can be written"},
	{[]string{"ssh", "scp", "sftp"}, false, "-o ProxyCommand and -S run any command"},
	{[]string{"docker", "podman", "nerdctl", "kubectl", "lxc", "virsh", "systemctl", "crontab", "apt", "apt-get", "dpkg", "rpm", "dnf", "yum"}, false, "it runs any command, as root where it may"},
	{[]string{"vi", "vim", "view", "nvim", "nano", "ed", "ex", "less", "more", "most", "man", "top", "htop", "ftp", "telnet", "mutt"}, true, "it runs commands that are typed at it"},
	{[]string{"tar", "bsdtar", "cpio", "zip", "unzip", "7z", "sed", "sort", "split", "tcpdump", "openssl", "ffmpeg", "gcc", "cc", "g++", "clang", "ld", "as", "pkg-config", "tclsh"}, false, "options run commands or load code, and any file can be written"},
	{[]string{"cp", "mv", "ln", "install", "dd", "tee", "truncate", "curl", "wget", "patch", "chmod", "chown"}, false, "any file of the user's can be written"},
}

// version is what follows the name of an interpreter: python3.12, lua5.4.
var version = regexp.MustCompile(`^[-0-9.]*[0-9]$`)

// leakOf is the leak of a program of that name.
func leakOf(name string) *leak {
	for i, l := range leaks {
		if slices.ContainsFunc(l.names, func(n string) bool {
			rest, ok := strings.CutPrefix(name, n)
			return ok && (rest == "" || version.MatchString(rest))
		}) {
			return &leaks[i]
		}
	}
	return nil
}

// isFree reports whether the client chooses an argument.
func (c *commandPattern) isFree() bool {
	return c.rest || slices.ContainsFunc(c.args, func(w wordPattern) bool { _, ok := w.literal(); return !ok })
}

// Warnings are the commands and the tables of oidc that are no fence, in the order of
// their lines.
func (p *Policy) Warnings() (ws []Warning) {
	ws = p.oidcWarnings()
	for _, rule := range p.rules {
		for _, c := range rule.commands {
			if why := c.noFence(); why != "" {
				ws = append(ws, Warning{c.line, fmt.Sprintf("%q is no fence: %s", c.text, why)})
			}
		}
	}
	slices.SortStableFunc(ws, func(a, b Warning) int { return a.Line - b.Line })
	return ws
}

func (c *commandPattern) noFence() string {
	file, literal := c.path.literal()
	l := leakOf(path.Base(file))
	switch {
	case !literal && c.rest:
		return "any file that matches, with any arguments"
	case !literal:
		return "any file that matches"
	case l != nil && (l.always || c.isFree()):
		return l.how
	case c.rest:
		return "** lets any arguments through, options too"
	}
	return ""
}

// A Named is a file that a policy names, without a star.
type Named struct {
	Line int
	Path string
}

// Files are the files of the commands that have no star, in the order of their
// lines.
func (p *Policy) Files() (files []Named) {
	for _, rule := range p.rules {
		for _, c := range rule.commands {
			if file, ok := c.path.literal(); ok {
				files = append(files, Named{c.line, file})
			}
		}
	}
	slices.SortStableFunc(files, func(a, b Named) int { return a.Line - b.Line })
	return files
}
