package main

import (
	"log/slog"
	"os"
	"strings"

	"wsexec/internal/cmdline"
)

// variablePrefix begins the names of all variables of this program.
const variablePrefix = "WSEXEC_SERVER_"

// unknownVariables are the variables of an environment that look like this
// program's, and are not. known are the flags' names.
func unknownVariables(environ []string, known []string) (unknown []string) {
	names := map[string]bool{}
	for _, flag := range known {
		names[variable(flag)[0]] = true
	}
	for _, kv := range environ {
		if name, value, _ := strings.Cut(kv, "="); value != "" && strings.HasPrefix(name, variablePrefix) && !names[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// tellUnknown warns of variables that change nothing, such as one with a slip of the
// pen in it.
func tellUnknown(log *serverLog) {
	var known []string
	for _, f := range flags(new(options)) {
		known = append(known, f.Names()[0])
	}
	for _, name := range unknownVariables(os.Environ(), known) {
		words := name + " is set, and is no variable of wsexec-server"
		attrs := []any{"name", name}
		if near := cmdline.Nearest(strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, variablePrefix), "_", "-")), known); near != "" {
			near = variable(near)[0]
			words += "; is it " + near + "?"
			attrs = append(attrs, "near", near)
		}
		log.tell(slog.LevelWarn, []string{words}, "unknown variable", attrs...)
	}
}
