package procgroup

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// execve can hang: at a file system that does not answer, at a lease on the
// program (man 2 fcntl), at what a program names as its interpreter. A thread
// of ours that waits for it, as syscall.ForkExec lets one, keeps its P, and the
// next garbage collection waits for that with all of the server. So a command
// is started by this process only where nothing of that can be in the way, as
// nearly always; else by a parent process of its own, which takes a third
// longer.

// answering are the file systems of this machine alone, by the numbers of man 2
// statfs: they answer as long as their disk does.
var answering = []int64{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC,
	unix.OVERLAYFS_SUPER_MAGIC, unix.SQUASHFS_MAGIC, unix.EROFS_SUPER_MAGIC_V1, unix.F2FS_SUPER_MAGIC,
	unix.ISOFS_SUPER_MAGIC, unix.PROC_SUPER_MAGIC, 0x2FC12FC1 /* ZFS */, 0xCA451A4E, /* bcachefs */
}

// MayHang reports whether execve of the command may. If not, release is to be
// called after the execve: until then the program and its interpreters are open,
// and no process can take a lease on a file that is open.
func (c *Command) MayHang() (release func(), may bool) {
	var opened []int
	release = func() {
		for _, fd := range opened {
			unix.Close(fd)
		}
	}
	if c.entry != nil {
		return release, false // this program itself; the command hangs in a process of its own
	}
	var st unix.Statfs_t
	path, dir := c.at()
	if unix.Statfs(dir, &st) != nil || !slices.Contains(answering, int64(st.Type)) {
		return nil, true
	}
	var buf [headSize]byte
	const most = 5 // scripts deep: BINPRM_BUF_SIZE and exec_binprm in fs/exec.c
	for name := path; len(opened) <= most; {
		fd, head := openAnswering(within(dir, name), buf[:])
		if fd < 0 {
			break
		}
		opened = append(opened, fd)
		if !bytes.HasPrefix(head, []byte("#!")) {
			if isPlainELF(head) {
				return release, false
			}
			break
		}
		line, _, whole := strings.Cut(string(head[len("#!"):]), "\n")
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if !whole || len(words) == 0 {
			break
		}
		name = words[0]
	}
	release()
	return nil, true
}

// headSize is how much of a program is looked at, in bytes.
const headSize = 2 << 10

// openAnswering opens a regular file on a file system of this machine, without
// waiting for anybody's lease, and reads its beginning into b. fd is -1 if it
// is none.
func openAnswering(path string, b []byte) (fd int, head []byte) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	n, rerr := 0, error(syscall.EINVAL)
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && unix.Fstatfs(fd, &fs) == nil && slices.Contains(answering, int64(fs.Type)) {
		n, rerr = unix.Pread(fd, b, 0)
	}
	if rerr != nil {
		unix.Close(fd)
		return -1, nil
	}
	return fd, b[:n]
}

// isPlainELF reports whether the beginning of a file is that of a program for
// this machine as linkers write them: its program headers follow the header,
// and its dynamic linker, if it has one, is named there and is one of the
// system's. All others take the long way; nothing is read that is not in head.
func isPlainELF(head []byte) bool {
	const (
		headerSize, entrySize = 64, 56 // of ELF64, elf(5)
		ptInterp              = 3
	)
	le := binary.LittleEndian
	if len(head) < headerSize || !bytes.HasPrefix(head, []byte("\x7fELF\x02\x01")) ||
		le.Uint64(head[32:]) != headerSize || le.Uint16(head[54:]) != entrySize {
		return false
	}
	for i := range int(le.Uint16(head[56:])) {
		at := headerSize + i*entrySize
		if at+entrySize > len(head) {
			return false
		}
		if p := head[at:]; le.Uint32(p) == ptInterp {
			offset, size := le.Uint64(p[8:]), le.Uint64(p[32:])
			if offset > uint64(len(head)) || size > uint64(len(head))-offset {
				return false
			}
			name := string(head[offset : offset+size])
			return strings.HasPrefix(name, "/lib") && !strings.Contains(name, "/..")
		}
	}
	return true
}
