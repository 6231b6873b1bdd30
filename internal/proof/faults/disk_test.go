package faults

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// disk is a small file system in memory, which can be full.
type disk struct {
	t   testing.TB
	dir string
}

// diskBytes is the size of a disk that is not full: far more than a run writes.
const diskBytes = 1 << 30

// newDisk mounts a disk for the test. It is nil where mounting is not permitted.
func newDisk(t testing.TB) *disk {
	t.Helper()
	dir, err := os.MkdirTemp("", "penstock-disk-") // PostgreSQL runs as another user, and needs access
	no(t, "make a directory", err)
	t.Cleanup(func() { no(t, "remove a directory", os.Remove(dir)) })
	d := &disk{t, dir}
	if err := syscall.Mount("penstock-faults", d.dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", diskBytes)); err != nil {
		t.Logf("no disk can be mounted, so none will be full: %v", err)
		return nil
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

// folder makes a directory on the disk. Where the tests run as root, PostgreSQL's user owns it,
// because PostgreSQL doesn't run as root.
func (d *disk) folder(name string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	no(d.t, "make a directory", os.Mkdir(path, 0o700))
	if u, err := user.Lookup("postgres"); err == nil && os.Getuid() == 0 {
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		no(d.t, "give a directory to postgres", os.Chown(path, uid, gid))
	}
	return path
}

// fill leaves no room: the disk shrinks to what is used.
func (d *disk) fill() {
	d.t.Helper()
	var fs syscall.Statfs_t
	no(d.t, "look at the disk", syscall.Statfs(d.dir, &fs))
	d.resize(int64(fs.Blocks-fs.Bfree) * int64(fs.Bsize))
}

// free gives the room back.
func (d *disk) free() {
	d.t.Helper()
	d.resize(diskBytes)
}

func (d *disk) resize(bytes int64) {
	d.t.Helper()
	// A write between the check and here makes the size too small. The kernel then returns an
	// error.
	for try := 0; ; try++ {
		err := syscall.Mount("penstock-faults", d.dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", bytes))
		if err == nil {
			return
		}
		if try == 100 {
			d.t.Fatalf("resize the disk: %v", err)
		}
		bytes += 64 << 10
	}
}
