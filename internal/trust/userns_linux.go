package trust

import (
	"os"
	"strconv"
	"strings"
)

// isUnmapped reports whether a user is one that has no number in this user
// namespace (man 7 user_namespaces): root of the machine, as a rule, to whom / then
// belongs. A directory of that user is accepted on the way to one's own, or nothing
// could be in a namespace of that kind (unshare --map-root-user, bubblewrap). It is
// of no use to another user: what is looked for in it has to be ours.
func isUnmapped(uid uint32) bool {
	overflow, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil || strings.TrimSpace(string(overflow)) != strconv.Itoa(int(uid)) {
		return false
	}
	all, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(all)), " ") != "0 0 4294967295"
}
