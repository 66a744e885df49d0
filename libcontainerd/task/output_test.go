package task

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// lines is a container that writes n different lines of 1 KiB, as fast as it can.
func (b *bench) lines(n int) (CreateRequest, []byte) {
	r := b.bundle(nil, "cat", "/lines")
	var text bytes.Buffer
	for i := range n {
		fmt.Fprintf(&text, "%01023d\n", i)
	}
	assert.NilError(b.t, os.WriteFile(r.Bundle+"/rootfs/lines", text.Bytes(), 0o644))
	return r, text.Bytes()
}

// unframe takes stdcopy frames apart.
func unframe(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var out bytes.Buffer
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return out.Bytes()
		} else {
			assert.NilError(t, err)
		}
		assert.Equal(t, head[0], byte(1))
		_, err := io.CopyN(&out, r, int64(binary.BigEndian.Uint32(head[4:])))
		assert.NilError(t, err)
	}
}

func TestMuchOutput(t *testing.T) {
	b := newBench(t)
	r, want := b.lines(64 * 1024)
	task := b.create(r)
	s := b.attach(&task.Process, output)
	assert.NilError(t, task.Start(b.ctx))
	assert.Check(t, bytes.Equal(unframe(t, s), want), "the attacher got something else than 64 MiB in order")
	assert.Equal(t, b.wait(task), uint32(0))
	assert.NilError(t, task.Delete(b.ctx))
	log, err := os.Open(r.Log.Info.Path)
	assert.NilError(t, err)
	defer log.Close()
	// Faster than decoding it.
	got := bufio.NewScanner(log)
	for line := range bytes.Lines(want) {
		assert.Assert(t, got.Scan())
		assert.Assert(t, bytes.HasPrefix(got.Bytes(), append([]byte(`{"log":"`), line[:1023]...)), "%s", got.Bytes())
	}
	assert.Check(t, !got.Scan())
}

func TestSlowAttacher(t *testing.T) {
	b := newBench(t)
	r, want := b.lines(4 * 1024)
	task := b.create(r)
	slow := b.attach(&task.Process, output)
	assert.NilError(t, task.Start(b.ctx))

	logSize := func() int64 {
		st, err := os.Stat(r.Log.Info.Path)
		assert.NilError(t, err)
		return st.Size()
	}
	var size int64
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		last := size
		if size = logSize(); size != last || size < mib {
			return poll.Continue("the log has %d bytes", size)
		}
		return poll.Success()
	}, poll.WithDelay(200*time.Millisecond), poll.WithTimeout(20*time.Second))
	st, err := task.Status(b.ctx)
	assert.NilError(t, err)
	assert.Equal(t, st, Running, "an attacher that does not read slows the process")

	// Another one that leaves without having read slows nothing.
	t.Run("left", func(t *testing.T) {
		gone := b.attach(&task.Process, output)
		assert.NilError(t, gone.Close())
	})
	assert.Check(t, bytes.Equal(unframe(t, slow), want))
	assert.Equal(t, b.wait(task), uint32(0))
	assert.Check(t, b.logged(r)["stdout"] == string(want))
}

func TestAttacherThatLeaves(t *testing.T) {
	b := newBench(t)
	r, want := b.lines(4 * 1024)
	task := b.create(r)
	lazy := b.attach(&task.Process, output)
	assert.NilError(t, task.Start(b.ctx))
	_, err := io.ReadFull(lazy, make([]byte, 1000))
	assert.NilError(t, err)
	assert.NilError(t, lazy.Close())
	assert.Equal(t, b.wait(task), uint32(0))
	assert.Check(t, b.logged(r)["stdout"] == string(want))
}

// An attacher that does not read gets the rest although container and shim are gone meanwhile.
func TestDeleteBeforeAttacherHasRead(t *testing.T) {
	b := newBench(t)
	r, want := b.lines(800) // less than what slows the process
	task := b.create(r)
	s := b.attach(&task.Process, output)
	assert.NilError(t, task.Start(b.ctx))
	assert.Equal(t, b.wait(task), uint32(0))
	assert.NilError(t, task.Delete(b.ctx))
	assert.Check(t, bytes.Equal(unframe(t, s), want))
}

func TestFullDisk(t *testing.T) {
	b := newBench(t)
	r := b.bundle(nil, "sh", "-c", "echo begin; cat /lines; read x; echo end")
	r.Stdin = true
	assert.NilError(t, os.WriteFile(r.Bundle+"/rootfs/lines", bytes.Repeat([]byte("some line\n"), mib/10), 0o644))
	disk := b.dir + "/disk"
	assert.NilError(t, os.Mkdir(disk, 0o700))
	assert.NilError(t, unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"))
	t.Cleanup(func() { assert.Check(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	r.Log.Info.Path = disk + "/log"
	task := b.create(r)
	s := b.attach(&task.Process, AttachOptions{Stdin: true, Stdout: true})
	assert.NilError(t, task.Start(b.ctx))
	_, err := io.CopyN(io.Discard, s, mib) // goes on although the disk is full
	assert.NilError(t, err)
	assert.NilError(t, unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=8m"))
	_, err = s.Write([]byte("\n"))
	assert.NilError(t, err)
	assert.Equal(t, b.wait(task), uint32(0))
	log, err := os.ReadFile(r.Log.Info.Path)
	assert.NilError(t, err)
	var text []string
	for _, l := range bytes.Split(bytes.TrimSpace(log), []byte("\n")) {
		var m struct{ Log string }
		assert.NilError(t, json.Unmarshal(l, &m), "%q", l)
		text = append(text, m.Log)
	}
	assert.Equal(t, text[0], "begin\n")
	assert.Equal(t, text[len(text)-1], "end\n")
	assert.Check(t, strings.Contains(text[len(text)-2], "no space left"), "%q", text[len(text)-2])
}

// What somebody sends who leaves without reading the answers is input to the last byte, and so is its end. It is more
// than the process's pipe holds, so that the answers find nobody while there is input left.
func TestInputOfOneWhoLeft(t *testing.T) {
	b := newBench(t)
	r := b.bundle(nil, "sh", "-c", "n=0; while read x; do n=$((n+1)); echo $n; done; exit $((n/1000))")
	r.Stdin = true
	task := b.run(r)
	s := b.attach(&task.Process, AttachOptions{Stdin: true, Stdout: true})
	for range 50 {
		_, err := s.Write(bytes.Repeat([]byte("xxx\n"), 1000))
		assert.NilError(t, err)
	}
	assert.NilError(t, s.CloseStdin())
	assert.NilError(t, s.Close())
	assert.Equal(t, b.wait(task), uint32(50))
}
