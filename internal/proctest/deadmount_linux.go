package proctest

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// DeadMount mounts a file system that does not answer: nobody reads its requests.
func DeadMount(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root, to mount")
	}
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no FUSE here:", err)
	}
	dir := t.TempDir()
	if err := unix.Mount("wsexec-test", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev)); err != nil {
		unix.Close(dev)
		t.Skip("no FUSE here:", err)
	}
	t.Cleanup(func() {
		unix.Close(dev) // which ends what waits for an answer
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
