package trust

import (
	"os"
	"strconv"
	"strings"
)

// isUnmapped reports whether uid stands for all users that have no number in this
// user namespace (man 7 user_namespaces), of which / then belongs to one: to the
// machine's root, as a rule. A directory of such a user is accepted on the way to a
// file, or no file could be trusted in a namespace of that kind (unshare
// --map-root-user, bubblewrap). Another user gains nothing by that: the file itself
// has to be this user's.
func isUnmapped(uid uint32) bool {
	overflow, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil || strings.TrimSpace(string(overflow)) != strconv.Itoa(int(uid)) {
		return false
	}
	all, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(all)), " ") != "0 0 4294967295"
}
