package proctest

// An Escape is a way in which a command can try to leave something behind: a line of
// shell, in which MARK is the argument by which that is found.
type Escape struct {
	Name, Script string
	N            int // processes that bear MARK, at least, once it is done
}

// Escapes are those that any command can try, with nothing but a shell.
var Escapes = []Escape{
	{"background", "sleep MARK &", 1},
	{"nohup", "nohup sleep MARK >/dev/null 2>&1 &", 1},
	{"setsid", "setsid sleep MARK </dev/null >/dev/null 2>&1 &", 1},
	{"double fork", "(setsid sh -c 'sleep MARK & exec sleep MARK' </dev/null >/dev/null 2>&1 &) &", 2},
	{"env -i", "env -i setsid -f sleep MARK </dev/null >/dev/null 2>&1", 1},
	{"ignores", "(trap '' HUP INT TERM; exec setsid sleep MARK </dev/null >/dev/null 2>&1) &", 1},
	{"job", "set -m; sleep MARK &", 1},
	{"stopped", "setsid sh -c 'sleep MARK & sleep 0.1; kill -STOP $!; wait' </dev/null >/dev/null 2>&1 &", 1},
	{"storm", "i=0; while [ $i -lt 200 ]; do setsid sleep MARK </dev/null >/dev/null 2>&1 & i=$((i+1)); done", 200},
}
