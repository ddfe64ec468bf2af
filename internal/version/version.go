// Package version says which build of a program this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"wsexec/internal/proto"
)

// Line is the version of a program in one line, without the program's name: the
// release, the protocol, the system and the compiler. linked is the release that
// the linker set (scripts/install), or empty for a build without.
func Line(linked string) string {
	if linked == "" {
		linked = "devel"
		if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
			linked = bi.Main.Version
		}
	}
	return fmt.Sprintf("%s (%s, %s/%s, %s)", linked, proto.Subprotocol, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
