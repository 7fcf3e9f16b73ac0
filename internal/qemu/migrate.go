package qemu

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/units"
)

// A guest is kept as three files: its RAM as it is (a file that a later QEMU maps, so that several guests share what
// none of them has changed), the state of its devices, and what it has written to its disk. QEMU's own migration
// files would have the RAM in them: it is then read whole by each guest, and shared by none.

// ramID names the guest's RAM in a QEMU that keeps a guest, and in one that goes on with it: migration knows RAM by it.
const ramID = "ram"

// SharedMemory is a guest's RAM that can be taken out of a QEMU that runs: a file, which lies in memory. In a memfd of
// QEMU's own, the RAM would be part of the migration again, from QEMU 8 on.
type SharedMemory struct {
	Size units.Size
	File string
}

// Args implements Device.
func (m SharedMemory) Args() []string {
	return append(Memory(m.Size).Args(), "-object",
		"memory-backend-file,id="+ramID+",share=on,size="+mib(m.Size)+",mem-path="+quote(m.File))
}

// KeptMemory is the RAM of a guest that was kept. What the guest writes is its own, and the file stays as it is.
type KeptMemory struct {
	Size units.Size
	File string
	// ReadOnly opens the file for reading only, which a QEMU before 8.2 cannot do with RAM that is written to.
	ReadOnly bool
}

// Args implements Device.
func (m KeptMemory) Args() []string {
	object := "memory-backend-file,id=" + ramID + ",share=off,size=" + mib(m.Size) + ",mem-path=" + quote(m.File)
	if m.ReadOnly {
		object += ",readonly=on,rom=off"
	}
	return append(Memory(m.Size).Args(), "-object", object)
}

// mib is a size as -m has it.
func mib(size units.Size) string { return strconv.FormatInt((int64(size)+1<<20-1)>>20, 10) + "M" }

// Incoming has QEMU wait for [Monitor.Restore].
type Incoming struct{}

// Args implements Device.
func (Incoming) Args() []string { return []string{"-incoming", "defer"} }

// VMGenID is a number that is another one in each QEMU: a guest that goes on sees it, and its kernel renews its
// entropy (VMGENID, Linux 5.18).
type VMGenID struct{}

// Args implements Device.
func (VMGenID) Args() []string { return []string{"-device", "vmgenid,guid=auto"} }

// Version is a QEMU's.
type Version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
}

// MapsReadOnly says whether KeptMemory can be ReadOnly.
func (v Version) MapsReadOnly() bool { return v.Major > 8 || v.Major == 8 && v.Minor >= 2 }

// Version is that of the QEMU that runs.
func (m *Monitor) Version(ctx context.Context) (Version, error) {
	var answer struct {
		QEMU Version `json:"qemu"`
	}
	err := m.soon(ctx, "query-version", nil, &answer)
	return answer.QEMU, err
}

// KeptFiles are where QEMU finds what is kept of a guest.
type KeptFiles struct {
	RAM, Devices, Disk string
}

// saveLimit is how long QEMU may take for one of a kept guest's files.
const saveLimit = 2 * time.Minute

// Save stops the guest, writes its devices, and its disk, of a size in bytes, to an empty file, has takeRAM copy the
// file of [SharedMemory], and lets the guest go on, whatever happens.
func (m *Monitor) Save(ctx context.Context, to KeptFiles, disk int64, takeRAM func() error) (err error) {
	if err := m.ignoreShared(ctx); err != nil { // a QEMU that cannot has not been stopped
		return err
	}
	if err := m.soon(ctx, "stop", nil, nil); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, m.within(context.WithoutCancel(ctx), saveLimit, "cont", nil, nil))
	}()
	if err := m.saveDisk(ctx, to.Disk, disk); err != nil {
		return err
	}
	if err := takeRAM(); err != nil {
		return fmt.Errorf("copy the guest's memory: %w", err)
	}
	err = m.soon(ctx, "migrate", map[string]any{"uri": "exec:cat >" + shellQuote(to.Devices)}, nil)
	if err != nil {
		return err
	}
	return m.awaitMigration(ctx)
}

// ignoreShared keeps RAM that is in a file out of the migration.
func (m *Monitor) ignoreShared(ctx context.Context) error {
	type capability struct {
		Name  string `json:"capability"`
		State bool   `json:"state"`
	}
	return m.soon(ctx, "migrate-set-capabilities",
		map[string]any{"capabilities": []capability{{"x-ignore-shared", true}}}, nil)
}

// What QEMU knows the kept disk by while it is written.
const (
	diskJob  = "kimg-keep"
	diskFile = "kimg-keep-file"
	diskNode = "kimg-keep-disk"
)

// saveDisk writes what the guest has written to its disk, of a size, to an empty file that is there: qcow2 without a
// base. Not drive-backup: that opens the file as the guest's own disk is, and with snapshot=on QEMU then removes both
// the file and the image.
func (m *Monitor) saveDisk(ctx context.Context, file string, size int64) error {
	type options = map[string]any
	for _, step := range []struct {
		command   string
		arguments options
		job       bool
	}{
		{"blockdev-add", options{"driver": "file", "node-name": diskFile, "filename": file}, false},
		{"blockdev-create", options{"job-id": diskJob,
			"options": options{"driver": "qcow2", "file": diskFile, "size": size}}, true},
		{"blockdev-add", options{"driver": "qcow2", "node-name": diskNode, "file": diskFile}, false},
		{"blockdev-backup", options{"job-id": diskJob, "device": "disk", "target": diskNode, "sync": "top",
			"auto-dismiss": false}, true},
		{"blockdev-del", options{"node-name": diskNode}, false},
		{"blockdev-del", options{"node-name": diskFile}, false},
	} {
		if err := m.within(ctx, saveLimit, step.command, step.arguments, nil); err != nil {
			return err
		}
		if step.job {
			if err := m.awaitJob(ctx, diskJob); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitJob waits for the end of a job that does not dismiss itself.
func (m *Monitor) awaitJob(ctx context.Context, id string) error {
	err := m.poll(ctx, func() (bool, error) {
		var jobs []struct{ ID, Status, Error string }
		err := m.soon(ctx, "query-jobs", nil, &jobs)
		for _, job := range jobs {
			if job.ID == id && job.Status != "concluded" {
				return false, err
			}
			if job.ID == id && job.Error != "" {
				err = errors.Join(err, fmt.Errorf("keep the guest's disk: %s", job.Error))
			}
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return m.soon(ctx, "job-dismiss", map[string]any{"id": id}, nil)
}

// Restore reads the devices of a guest into a QEMU that waits for them, by [Incoming]. The guest stays stopped.
func (m *Monitor) Restore(ctx context.Context, from KeptFiles) error {
	if err := m.ignoreShared(ctx); err != nil {
		return err
	}
	// Nor does it announce its network card: QEMU's own network knows it, and each program that listens to the
	// kernel's would wake up for that.
	if err := m.soon(ctx, "migrate-set-parameters", map[string]int{"announce-rounds": 0}, nil); err != nil {
		return err
	}
	err := m.soon(ctx, "migrate-incoming", map[string]any{"uri": "exec:cat <" + shellQuote(from.Devices)}, nil)
	if err != nil {
		return err
	}
	return m.awaitMigration(ctx)
}

// awaitMigration waits for the end of a migration, in or out.
func (m *Monitor) awaitMigration(ctx context.Context) error {
	return m.poll(ctx, func() (bool, error) {
		var answer struct {
			Status string `json:"status"`
			Why    string `json:"error-desc"`
		}
		err := m.soon(ctx, "query-migrate", nil, &answer)
		switch {
		case err != nil:
			return true, err
		case answer.Status == "failed":
			return true, fmt.Errorf("have QEMU read or write a guest's state: it failed %s", answer.Why)
		}
		return answer.Status == "completed", nil
	})
}

// poll asks until it is done: an event may have come before somebody waits for it.
func (m *Monitor) poll(ctx context.Context, done func() (bool, error)) error {
	late := time.After(saveLimit)
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-late:
			return fmt.Errorf("keep a guest, or go on with one: QEMU is not done in %v", saveLimit)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// shellQuote quotes a word for the shell that QEMU runs.
func shellQuote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
