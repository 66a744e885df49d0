package integration

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// What clients trust the daemon with, values of variables and passwords for registries, is in no log, not even of a daemon
// that logs all it can, in no event and on no command line, whether requests succeed or fail.
func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Args("--debug", "--log-level", "debug"), harness.Env("HTTP_PROXY=http://me:s3cret-proxy@127.0.0.1:9"))
	env := []string{"TOKEN=s3cret-env"}
	spec := harness.Spec("sleep", "1000")
	spec["Env"] = env
	spec["Healthcheck"] = harness.M{"Test": []string{"CMD", "true"}, "Interval": 20_000_000}
	id := d.Create("trusted", spec)
	d.API.Start(id)
	for _, cmd := range []string{"true", "/no/such"} {
		var x struct{ ID string }
		d.OK("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{cmd}, "Env": []string{"KEY=s3cret-exec"}}, &x)
		d.HTTP("POST", "/exec/"+x.ID+"/start", harness.M{"Detach": true})
	}
	broken := harness.Spec("/no/such")
	broken["Env"] = env
	d.HTTP("POST", "/containers/"+d.Create("broken", broken)+"/start", nil)
	for _, body := range []string{`{"Image":"none","Env":["TOKEN=s3cret-env"]}`, `{"Image":"busybox","Env":["TOKEN=s3cret-env",1]}`} {
		d.HTTP("POST", "/containers/create", body)
	}
	auth := base64.URLEncoding.EncodeToString([]byte(`{"username":"me","password":"s3cret-registry","serveraddress":"127.0.0.1:9"}`))
	for _, path := range []string{"/images/create?fromImage=127.0.0.1:9/x", "/images/127.0.0.1:9/x/push"} {
		req, err := http.NewRequest("POST", "http://engine"+path, nil)
		assert.NilError(t, err)
		req.Header.Set("X-Registry-Auth", auth)
		d.Send(req)
	}
	d.HTTP("POST", "/auth", harness.M{"username": "me", "password": "s3cret-login", "serveraddress": "127.0.0.1:9"})
	assert.Assert(t, !strings.Contains(d.HTTP("GET", "/info", nil).Body, "s3cret"))
	now := time.Now().Unix()
	assert.Assert(t, !strings.Contains(d.HTTP("GET", fmt.Sprintf("/events?since=1&until=%d", now), nil).Body, "s3cret"))
	st, err := d.Sandbox.State()
	assert.NilError(t, err)
	for _, p := range st.Processes {
		assert.Check(t, !strings.Contains(p, "s3cret"), p)
	}

	d.Kill9()
	d.Start()
	d.Remove(id)
	log := d.DaemonLog()
	assert.Assert(t, cmp.Contains(log, "level=debug"))
	for _, secret := range []string{"s3cret", auth, auth[:40]} {
		for line := range strings.Lines(log) {
			assert.Check(t, !strings.Contains(line, secret), line)
		}
	}
}

// Nobody but root reads what the daemon keeps: the folders that the others could enter have files that are no secrets.
func TestOthersCannotReadRecords(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	id := d.Run("kept", "sleep", "1000")
	d.Exec(id, "true")
	assert.NilError(t, filepath.WalkDir(d.File("e"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == d.File("e") {
			return err
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // the exec is being deleted
			return nil
		}
		if err != nil {
			return err
		}
		open := fi.Mode().Perm() & 0o007
		switch {
		case e.IsDir() && open == 0:
			return filepath.SkipDir // and what is in it is out of reach
		case e.IsDir():
			assert.Check(t, open&0o006 == 0 || filepath.Base(path) == "netns", "%s %s can be listed", fi.Mode(), path)
		case fi.Mode().IsRegular() && !strings.Contains(path, "/netns/") && !strings.Contains(path, "/rootfs/"):
			runtimes := filepath.Ext(path) == ".pid" || filepath.Base(path) == "log.json" // the runtime's: no secrets
			assert.Check(t, open == 0 || runtimes, "%s %s", fi.Mode(), path)
		}
		return nil
	}))
	fi, err := os.Stat(d.File("d"))
	assert.NilError(t, err)
	assert.Assert(t, fi.Mode().Perm()&0o007 == 0, "%s: the data root cannot be entered", fi.Mode())
	fi, err = os.Stat(d.File("s"))
	assert.NilError(t, err)
	assert.Equal(t, fi.Mode().Perm(), os.FileMode(0o660))
}

// The place of a volume in an image can be a link that leads out: what is copied into the volume, and where it is mounted,
// is the container's, and nothing is made on the host.
func TestVolumesBehindLinks(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	outside := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("of the host"), 0o600))
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for name, to := range map[string]string{"out": outside, "up": "../../../../../../.." + outside} {
		assert.NilError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}))
	}
	assert.NilError(t, w.Close())
	id := d.Create("", harness.Spec("true"))
	d.OK("PUT", "/containers/"+id+"/archive?path=/", &layer, nil)
	d.OK("POST", "/commit?container="+id+"&repo=linked", nil, nil)
	for _, place := range []string{"/out", "/up", "/out/new/deeper"} {
		spec := harness.Spec("sh", "-c", "cat "+place+"/secret; echo mine >"+place+"/mine && ls "+place)
		spec["Image"] = "linked"
		spec["HostConfig"].(harness.M)["Mounts"] = []harness.M{{"Type": "volume", "Target": place}}
		id := d.Create("", spec)
		if resp := d.HTTP("POST", "/containers/"+id+"/start", nil); resp.Status == 204 {
			d.Wait(id)
			log := d.Log(id)
			assert.Check(t, !strings.Contains(log, "of the host"), log)
			assert.Check(t, cmp.Contains(log, "mine\n"))
		}
	}
	entries, err := os.ReadDir(outside)
	assert.NilError(t, err)
	assert.Equal(t, len(entries), 1, "%v", entries)
}
