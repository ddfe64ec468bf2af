package access

import (
	"errors"
	"slices"
	"strings"
)

// The patterns of a policy. All of them are matched by byte, and case counts.

// A glob is a text with stars, cut at them: between two pieces anything may
// stand. One piece is a text without a star.
type glob []string

func (g glob) literal() bool { return len(g) == 1 }

// matches reports whether a text is one of the glob's.
func (g glob) matches(s string) bool {
	if g.literal() {
		return s == g[0]
	}
	first, last := g[0], g[len(g)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, piece := range g[1 : len(g)-1] {
		i := strings.Index(s, piece)
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	return true
}

// part is a glob of what stands between two slashes. A star there stands for no
// slash, which no text has that it is asked about; and not for a way to another
// directory: one star is neither "." nor "..", one alone is not empty, and
// where there are several the text has no "..".
type part struct{ glob }

func (p part) matches(s string) bool {
	if !p.glob.matches(s) {
		return false
	}
	switch len(p.glob) {
	case 1:
		return true
	case 2:
		star := s[len(p.glob[0]) : len(s)-len(p.glob[1])]
		alone := p.glob[0] == "" && p.glob[1] == ""
		return star != "." && star != ".." && (star != "" || !alone)
	}
	return !strings.Contains(s, "..")
}

// A wordPattern is one word of a command.
type wordPattern struct {
	any   bool // "*": any word
	parts []part
}

func (w wordPattern) matches(s string) bool { return w.any || matchParts(w.parts, s) }

// literal is the word, if the pattern is for one alone.
func (w wordPattern) literal() (word string, ok bool) {
	if w.any {
		return "", false
	}
	var words []string
	for _, p := range w.parts {
		if !p.literal() {
			return "", false
		}
		words = append(words, p.glob[0])
	}
	return strings.Join(words, "/"), true
}

func matchParts(parts []part, s string) bool {
	for i, p := range parts {
		word, rest, more := strings.Cut(s, "/")
		if more != (i < len(parts)-1) || !p.matches(word) {
			return false
		}
		s = rest
	}
	return true
}

// A commandPattern is a file and the arguments that it may be given.
type commandPattern struct {
	place
	text string
	path wordPattern
	args []wordPattern
	rest bool // any more arguments
}

// matches reports whether a command is one of the pattern's. Of the arguments
// only the first are known if cut is true.
func (c *commandPattern) matches(args []string, cut bool) bool {
	if len(args) < len(c.args) || !c.rest && (len(args) > len(c.args) || cut) {
		return false
	}
	for i, w := range c.args {
		if !w.matches(args[i]) {
			return false
		}
	}
	return true
}

// parseCommand reads the pattern of a command: words between blanks. A
// backslash takes its meaning from a star, a blank, or a backslash.
func parseCommand(text string) (*commandPattern, error) {
	words, err := split(text)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, errors.New("it is empty")
	}
	c := &commandPattern{text: text}
	for i, w := range words {
		switch {
		case w.starred("**") && i == 0, w.starred("*") && i == 0:
			return nil, errors.New("it has to begin with the path of a file, such as /usr/bin/make **")
		case w.starred("**") && i == len(words)-1:
			c.rest = true
			continue
		case w.hasDouble():
			return nil, errors.New("** stands for all further words: alone, and at the end")
		}
		p := wordPattern{any: w.starred("*") && i > 0}
		if !p.any {
			p.parts = w.parts()
		}
		if i > 0 {
			c.args = append(c.args, p)
			continue
		}
		if err := checkPath(p.parts); err != nil {
			return nil, err
		}
		c.path = p
	}
	return c, nil
}

// checkPath looks at the pattern of a path, which real paths are matched with.
func checkPath(parts []part) error {
	if len(parts) < 2 || !isEmpty(parts[0]) {
		return errors.New("it has to begin with a path from / on: the resolved one is matched")
	}
	for i, p := range parts[1:] {
		if p.literal() && (p.glob[0] == "." || p.glob[0] == ".." || p.glob[0] == "" && !(i == 0 && len(parts) == 2)) {
			return errors.New("a path with //, . or .. in it, or with / at its end, matches nothing: the resolved one is matched")
		}
	}
	return nil
}

func isEmpty(p part) bool { return p.literal() && p.glob[0] == "" }

// A rawWord is a word of a pattern before it is taken apart. Stars are marked:
// others were escaped.
type rawWord struct {
	text  []byte
	stars []int // where they are in text
}

// starred reports whether the word is that one, of stars.
func (w rawWord) starred(stars string) bool {
	return string(w.text) == stars && len(w.stars) == len(stars)
}

// hasDouble reports whether two stars stand side by side.
func (w rawWord) hasDouble() bool {
	for i := 1; i < len(w.stars); i++ {
		if w.stars[i] == w.stars[i-1]+1 {
			return true
		}
	}
	return false
}

// parts cuts the word at its slashes and stars.
func (w rawWord) parts() (parts []part) {
	var g glob
	piece := 0
	for i, c := range w.text {
		switch {
		case c == '/':
			parts, g, piece = append(parts, part{append(g, string(w.text[piece:i]))}), nil, i+1
		case c == '*' && slices.Contains(w.stars, i):
			g, piece = append(g, string(w.text[piece:i])), i+1
		}
	}
	return append(parts, part{append(g, string(w.text[piece:]))})
}

// split splits a text at blanks.
func split(text string) (words []rawWord, err error) {
	var w rawWord
	in := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ' ' || c == '\t':
			if in {
				words, w, in = append(words, w), rawWord{}, false
			}
			continue
		case c == 0:
			return nil, errors.New("it has a NUL byte")
		case c == '\\':
			if i++; i == len(text) || !strings.ContainsRune(`*\ `, rune(text[i])) {
				return nil, errors.New(`a backslash stands before a star, a blank or a backslash; in a text between " it is typed twice`)
			}
			w.text = append(w.text, text[i])
		default:
			if c == '*' {
				w.stars = append(w.stars, len(w.text))
			}
			w.text = append(w.text, c)
		}
		in = true
	}
	if in {
		words = append(words, w)
	}
	return words, nil
}

// whole reads a text as one word, in which blanks mean nothing.
func whole(text string) (rawWord, error) {
	words, err := split(strings.NewReplacer(`\\`, `\\`, `\ `, `\ `, " ", `\ `).Replace(text))
	switch {
	case err != nil:
		return rawWord{}, err
	case len(words) != 1:
		return rawWord{}, errors.New("it is empty, or has a tab")
	}
	return words[0], nil
}

// A dirPattern is a directory, or with below that and all below it.
type dirPattern struct {
	text  string
	parts []part
	below bool
}

func parseDir(text string) (d dirPattern, err error) {
	d.text = text
	w, err := whole(text)
	if err != nil {
		return d, err
	}
	if n := len(w.text) - len("/**"); n >= 0 && string(w.text[n:]) == "/**" && slices.Contains(w.stars, n+1) && slices.Contains(w.stars, n+2) {
		w.text, w.stars, d.below = w.text[:n], w.stars[:len(w.stars)-2], true
	}
	if w.hasDouble() {
		return d, errors.New("** stands at the end, behind a slash")
	}
	d.parts = w.parts()
	if d.below && len(w.text) == 0 { // "/**"
		return d, nil
	}
	return d, checkPath(d.parts)
}

// matches reports whether a directory, by its real path, is one of the
// pattern's.
func (d dirPattern) matches(dir string) bool {
	if !d.below {
		return matchParts(d.parts, dir)
	}
	have := strings.Split(strings.TrimSuffix(dir, "/"), "/")
	if len(have) < len(d.parts) {
		return false
	}
	for i, p := range d.parts {
		if !p.matches(have[i]) {
			return false
		}
	}
	return true
}

// An envPattern is names of variables.
type envPattern struct{ glob }

func parseEnv(text string) (envPattern, error) {
	w, err := whole(text)
	if err != nil {
		return envPattern{}, err
	}
	for i, c := range w.text {
		if isStar := slices.Contains(w.stars, i); c == '=' || c == '/' || c == '*' && !isStar {
			return envPattern{}, errors.New("it is no name of a variable: names are meant, with * for a part")
		}
	}
	if w.hasDouble() {
		return envPattern{}, errors.New("** is for commands and directories")
	}
	name := w.parts()[0].glob
	if strings.HasPrefix(name[0], "WSEXEC_") {
		return envPattern{}, errors.New("names that begin with WSEXEC_ are the server's own, and no client can set them")
	}
	return envPattern{name}, nil
}

// matches reports whether a client may set a variable. A name that changes what
// a program does has to be named: by itself, or where a family of names does,
// by a pattern that begins with the family's beginning.
func (e envPattern) matches(name string) bool {
	if !e.glob.matches(name) {
		return false
	}
	if e.literal() {
		return true
	}
	if slices.Contains(tellingNames, name) {
		return false
	}
	for _, family := range tellingFamilies {
		if strings.HasPrefix(name, family) && !strings.HasPrefix(e.glob[0], family) {
			return false
		}
	}
	return true
}

// Variables that have a program run or load something else, find other files,
// or take another user's place: those that sudo removes (man 5 sudoers, env_reset
// and env_delete), those of glibc that ld.so(8) ignores in secure-execution
// mode, and those of shells, git, make, editors, pagers and interpreters.
var (
	tellingNames = []string{
		"PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "TMPDIR", "TZDIR", "TZ",
		"IFS", "ENV", "BASH_ENV", "BASHOPTS", "SHELLOPTS", "CDPATH", "FPATH", "ZDOTDIR", "NULLCMD", "READNULLCMD", "PS4", "PROMPT_COMMAND", "GLOBIGNORE", "INPUTRC", "POSIXLY_CORRECT",
		"PAGER", "MANPAGER", "SYSTEMD_PAGER", "EDITOR", "VISUAL", "BROWSER", "LESS", "LESSOPEN", "LESSCLOSE", "LESSEDIT", "VIMINIT", "EXINIT", "VIMRUNTIME", "MORE",
		"GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH", "NLSPATH", "RES_OPTIONS", "GLIBC_TUNABLES", "RESOLV_HOST_CONF", "TERMINFO", "TERMINFO_DIRS", "TERMPATH", "TERMCAP",
		"MAKEFLAGS", "MAKEFILES", "GNUMAKEFLAGS", "MFLAGS", "TAR_OPTIONS", "ZIPOPT", "RSYNC_RSH", "RSYNC_CONNECT_PROG", "RSYNC_OLD_ARGS", "CVS_RSH", "SVN_SSH", "SSH_ASKPASS", "SUDO_ASKPASS", "SSH_AUTH_SOCK",
		"PERLLIB", "PERLIO", "PERLDB_OPTS", "CLASSPATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "AWKPATH", "AWKLIBPATH", "GOFLAGS", "GOTOOLCHAIN", "GOPROXY", "CC", "CXX", "LD",
	}
	tellingFamilies = []string{
		"LD_", "DYLD_", "_RLD", "GIT_", "BASH_FUNC_", "PYTHON", "PERL5", "RUBY", "NODE_", "LUA_", "PHP", "MALLOC_", "XDG_",
		"CARGO_", "RUST", "NPM_", "npm_", "GEM_", "BUNDLE_", "OPENSSL_", "SSL_", "KRB5", "DOCKER_", "CMAKE_", "LIBPATH", "SHLIB_PATH",
	}
)

// parseClaim reads the value of a claim; a star stands for anything.
func parseClaim(text string) (glob, error) {
	w, err := whole(text)
	if err != nil {
		return nil, err
	}
	var g glob
	piece := 0
	for _, i := range w.stars {
		g, piece = append(g, string(w.text[piece:i])), i+1
	}
	return append(g, string(w.text[piece:])), nil
}
