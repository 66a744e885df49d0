package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// badRequest is a request that is refused with a status and a sentence that dockerd gives too. {id} is a container
// that runs, {stopped} one that does not.
type badRequest struct {
	name, request, body string
	status              int
	message             string // a regular expression for all of it
}

var badCreates = []badRequest{
	{"no body", "", "", 400, `invalid JSON: EOF`},
	{"null", "", "null", 400, `config cannot be empty in order to create a container`},
	{"empty object", "", "{}", 400, `config cannot be empty in order to create a container`},
	{"broken JSON", "", `{"Image": busybox}`, 400, `invalid JSON: invalid character 'b' looking for beginning of value`},
	{"cut-off JSON", "", `{"Image": "busy`, 400, `invalid JSON: (unexpected EOF|got EOF while reading request body)`},
	{"more than JSON", "", `{"Image":"busybox"} {}`, 400, `unexpected content after JSON`},
	{"number for a text", "", `{"Image": 5}`, 400,
		`invalid JSON: json: cannot unmarshal number into Go .*Image of type string`},
	{"text for a number", "", `{"Image":"busybox","HostConfig":{"Memory":"1g"}}`, 400,
		`invalid JSON: json: cannot unmarshal string into Go .*Memory of type int64`},
	{"text for an object", "", `{"Image":"busybox","HostConfig":"none"}`, 400,
		`invalid JSON: json: cannot unmarshal string into .*`},
	{"missing image", "", `{"Image":"nope"}`, 404, `No such image: nope:latest`},
	{"image reference", "", `{"Image":"UPPER"}`, 400,
		`invalid reference format: repository name \(library/UPPER\) must be lowercase`},
	{"no command", "", `{"Image":"empty"}`, 400, `no command specified`},
	{"short name", "?name=a", `{"Image":"busybox"}`, 400,
		`Invalid container name \(a\), only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are allowed`},
	{"name with a slash", "?name=a/b", `{"Image":"busybox"}`, 400,
		`Invalid container name \(a/b\), only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are allowed`},
	{"name in use", "?name=running", `{"Image":"busybox"}`, 409,
		`Conflict\. The container name "/running" is already in use by ` +
			`container "{id}"\. You have to remove \(or rename\) that container to be able to reuse that name\.`},
	{"memory limit", "", `{"Image":"busybox","HostConfig":{"Memory":1048576}}`, 400,
		`Minimum memory limit allowed is 6MB`},
	{"memory and swap", "", `{"Image":"busybox","HostConfig":{"Memory":67108864,"MemorySwap":33554432}}`, 400,
		`Minimum memoryswap limit should be larger than memory limit, see usage`},
	{"CPUs that are not there", "", `{"Image":"busybox","HostConfig":{"CpusetCpus":"0,4000"}}`, 400,
		`Requested CPUs are not available - requested 0,4000, available: .*`},
	{"set of CPUs", "", `{"Image":"busybox","HostConfig":{"CpusetCpus":"1-0"}}`, 400,
		`Invalid value 1-0 for cpuset cpus: invalid format: 1-0`},
	{"memory nodes that are not there", "", `{"Image":"busybox","HostConfig":{"CpusetMems":"900"}}`, 400,
		`Requested memory nodes are not available - requested 900, available: .*`},
	{"real-time runtime above its period", "",
		`{"Image":"busybox","HostConfig":{"CpuRealtimePeriod":10,"CpuRealtimeRuntime":20}}`, 400,
		`cpu real-time runtime cannot be higher than cpu real-time period`},
	{"limit of another system", "", `{"Image":"busybox","HostConfig":{"IOMaximumIOps":1}}`, 400,
		`invalid QoS settings: linux does not support configuration of maximum IOPs`},
	{"storage options", "", `{"Image":"busybox","HostConfig":{"StorageOpt":{"size":"1g"}}}`, 400,
		`--storage-opt is not supported: the layer of a container takes no options in Berth`},
	{"device requests", "", `{"Image":"busybox","HostConfig":{"DeviceRequests":[{"Capabilities":[["gpu"]]}]}}`, 400,
		`could not select device driver "" with capabilities: \[\[gpu\]\]: Berth has no drivers of devices .*`},
	{"device rule", "", `{"Image":"busybox","HostConfig":{"DeviceCgroupRules":["c 1:x rwm"]}}`, 400,
		`invalid device cgroup rule format: 'c 1:x rwm'`},
	{"annotation", "", `{"Image":"busybox","HostConfig":{"Annotations":{"":"x"}}}`, 400,
		`invalid Annotation: the empty string is not permitted as an annotation key`},
	{"extra host", "", `{"Image":"busybox","HostConfig":{"ExtraHosts":["db:here"]}}`, 400,
		`invalid IP address in add-host: "here"`},
	{"mode of a namespace", "", `{"Image":"busybox","HostConfig":{"UTSMode":"container:running"}}`, 400,
		`invalid UTS mode: container:running`},
	{"namespace of a missing container", "", `{"Image":"busybox","HostConfig":{"PidMode":"container:nope"}}`, 400,
		`No such container: nope`},
	{"network of nobody", "", `{"Image":"busybox","HostConfig":{"NetworkMode":"container:"}}`, 400,
		`invalid network mode: invalid container format container:<name\|id>`},
	{"hostname of another", "", `{"Image":"busybox","Hostname":"x","HostConfig":{"NetworkMode":"container:running"}}`, 400,
		`conflicting options: hostname and the network mode`},
	{"hostname of the host", "", `{"Image":"busybox","Hostname":"x","HostConfig":{"UTSMode":"host"}}`, 400,
		`conflicting options: hostname and the UTS mode`},
	{"port of another", "", `{"Image":"busybox","ExposedPorts":{"80/tcp":{}},"HostConfig":{"NetworkMode":"container:running"}}`,
		400, `conflicting options: port exposing and the container type network mode`},
	{"cpus and quota", "", `{"Image":"busybox","HostConfig":{"NanoCpus":1000000,"CpuQuota":1000}}`, 400,
		`Conflicting options: Nano CPUs and CPU Quota cannot both be set\.`},
	{"bind of a missing path", "",
		`{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"/no/such","Target":"/x"}]}}`, 400,
		`invalid mount config for type "bind": bind source path does not exist: /no/such`},
	{"bind without a target", "", `{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp"}]}}`, 400,
		`invalid mount config for type "bind": field Target must not be empty`},
	{"relative target", "", `{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"x"}]}}`, 400,
		`invalid mount config for type "bind": invalid mount path: 'x' mount path must be absolute`},
	{"unknown mount, and no image", "", `{"Image":"nope","HostConfig":{"Mounts":[{"Type":"nope","Target":"/x"}]}}`, 400,
		`invalid mount config for type "nope": mount type unknown`},
	{"one target twice", "", `{"Image":"busybox","HostConfig":{"Binds":["/tmp:/x","/etc:/x"]}}`, 400,
		`Duplicate mount point: /x`},
	{"volume of a bad name", "", `{"Image":"busybox","HostConfig":{"Binds":["a/b:/x"]}}`, 400, `create a/b: "a/b" includes ` +
		`invalid characters for a local volume name, only "\[a-zA-Z0-9\]\[a-zA-Z0-9_.-\]" are allowed\. ` +
		`If you intended to pass a host directory, use absolute path`},
	{"volume with a propagation", "", `{"Image":"busybox","HostConfig":{"Binds":["vol:/x:rslave"]}}`, 400,
		`invalid volume specification: 'vol:/x:rslave': invalid mount config for type "volume": ` +
			`field BindOptions must not be specified`},
	{"read-only anonymous volume", "",
		`{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"volume","Target":"/x","ReadOnly":true}]}}`, 400,
		`invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes`},
	{"path out of a volume", "", `{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"volume","Source":"vol","Target":"/x",` +
		`"VolumeOptions":{"Subpath":"../y"}}]}}`, 400,
		`invalid mount config for type "volume": subpath must be a relative path within the volume`},
	{"mount of no image", "", `{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"image","Target":"/x"}]}}`, 400,
		`invalid mount config for type "image": field Source must not be empty`},
	{"mount of an unknown image", "", `{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"image","Source":"nope","Target":"/x"}]}}`,
		400, `No such image: nope:latest`},
	{"path out of an image", "", `{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"image","Source":"busybox","Target":"/x",` +
		`"ImageOptions":{"Subpath":"../y"}}]}}`, 400,
		`invalid mount config for type "image": subpath must be a relative path within the image`},
	{"unknown volume driver", "", `{"Image":"busybox","HostConfig":{"Binds":["vol:/x"],"VolumeDriver":"nope"}}`, 404,
		`create vol: error looking up volume plugin nope: plugin "nope" not found`},
	{"unknown option of a volume that is made on the way", "", `{"Image":"busybox","HostConfig":{"Binds":["/anon"],"Mounts":` +
		`[{"Type":"volume","Source":"vol","Target":"/x","VolumeOptions":{"DriverConfig":{"Options":{"odd":"1"}}}}]}}`, 400,
		`create vol: invalid option: "odd"`},
	{"volumes of an unknown container", "", `{"Image":"busybox","HostConfig":{"VolumesFrom":["nope"]}}`, 400,
		`No such container: nope`},
	{"mode of other containers' volumes", "", `{"Image":"busybox","HostConfig":{"VolumesFrom":["running:shared"]}}`, 400,
		`invalid mode: shared`},
	{"volume over a file", "", `{"Image":"busybox","Cmd":["true"],"HostConfig":{"Binds":["vol:/bin/sh"]}}`, 400,
		`cannot mount volume over existing file, file exists /bin/sh`},
	{"auto-remove and restart", "", `{"Image":"busybox","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`,
		400, `can't create 'AutoRemove' container with restart policy`},
	{"restart policy", "", `{"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"nope"}}}`, 400,
		`invalid restart policy: unknown policy 'nope'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`},
	{"unknown runtime", "", `{"Image":"busybox","HostConfig":{"Runtime":"nope"}}`, 400,
		`unknown or invalid runtime name: nope`},
	{"unknown log driver", "", `{"Image":"busybox","HostConfig":{"LogConfig":{"Type":"nope"}}}`, 400,
		`logger: no log driver named 'nope' is registered: use one of journald, json-file, local, none, syslog`},
	{"restart count beside a policy", "", `{"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"always","MaximumRetryCount":1}}}`,
		400, `invalid restart policy: maximum retry count can only be used with 'on-failure'`},
	{"platform", "?platform=a/b/c/d", `{"Image":"busybox"}`, 400, `invalid platform "a/b/c/d": .*cannot parse platform specifier.*`},
	{"platform of another machine", "?platform=linux/s390x", `{"Image":"busybox"}`, 404,
		`image with reference busybox:latest was found but does not provide the specified platform \(linux/s390x\)`},
	{"options of a cluster mount", "", `{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/x",` +
		`"ClusterOptions":{}}]}}`, 400, `invalid mount config for type "tmpfs": field ClusterOptions must not be specified`},
	{"link to an unknown container", "", `{"Image":"busybox","HostConfig":{"Links":["nope:x"]}}`, 400,
		`could not get container for nope: No such container: nope`},
	{"link", "", `{"Image":"busybox","HostConfig":{"Links":["running:x:y"]}}`, 400, `bad format for links: running:x:y`},
	{"port", "", `{"Image":"busybox","HostConfig":{"PortBindings":{"x/tcp":[{}]}}}`, 400, `invalid port specification: "x"`},
	{"network without settings", "", `{"Image":"busybox","NetworkingConfig":{"EndpointsConfig":{"bridge":null}}}`, 400,
		`no EndpointSettings for bridge`},
	{"health check", "", `{"Image":"busybox","Healthcheck":{"Test":["CMD","true"],"Interval":1}}`, 400,
		`Interval in Healthcheck cannot be less than 1ms`},
}

var badOthers = []badRequest{
	{"unknown container", "GET /containers/nope/json", "", 404, `No such container: nope`},
	{"start of an unknown container", "POST /containers/nope/start", "", 404, `No such container: nope`},
	{"start with a body", "POST /containers/{stopped}/start", `{"Binds":[]}`, 400,
		`starting container with non-empty request body ` +
			`was deprecated since API v1\.22 and removed in v1\.24`},
	{"start from a checkpoint", "POST /containers/stopped/start?checkpoint=x", "", 400,
		`checkpoint is only supported in experimental mode`},
	{"folder of checkpoints", "POST /containers/stopped/start?checkpoint-dir=/x", "", 403, `custom checkpointdir is not supported`},
	{"filters", "GET /containers/json?filters={", "", 400, `invalid filter`},
	{"escape in the query", "DELETE /containers/stopped?v=%zz", "", 400, `invalid URL escape "%zz"`},
	{"semicolon in the query", "DELETE /containers/running?v=1;force=1", "", 400, `invalid semicolon separator in query`},
	{"unknown filter", `GET /containers/json?filters={"nope":["1"]}`, "", 400, `invalid filter 'nope'`},
	{"value of a filter", `GET /containers/json?filters={"status":["nope"]}`, "", 400, `invalid filter 'status=.*nope.*'.*`},
	{"kill of a stopped container", "POST /containers/stopped/kill", "", 409,
		`cannot kill container: stopped: container {stopped} is not running`},
	{"unknown signal", "POST /containers/running/kill?signal=FOO", "", 400,
		`cannot kill container: running: invalid signal: FOO`},
	{"removing what runs", "DELETE /containers/running", "", 409, `cannot remove container "running": ` +
		`container is running: stop the container before removing or force remove`},
	{"removing what runs, by an old client", "DELETE /v1.23/containers/running", "", 409, `You cannot remove a running container ` +
		`{id}\. Stop the container before attempting removal or force remove\n`},
	{"rename to nothing", "POST /containers/running/rename?name=", "", 400, `Neither old nor new names may be empty`},
	{"rename to a bad name", "POST /containers/running/rename?name=-x", "", 400,
		`Error when allocating new name: Invalid container name \(/-x\), only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are allowed`},
	{"rename to a name in use", "POST /containers/running/rename?name=stopped", "", 409,
		`Error when allocating new name: ` +
			`Conflict\. The container name "/stopped" is already in use by container "{stopped}"\. .*`},
	{"exec without a command", "POST /containers/running/exec", "{}", 400, `No exec command specified`},
	{"exec with half a body", "POST /containers/running/exec", `{"Cmd":["tr`, 400,
		`invalid JSON: got EOF while reading request body`},
	{"exec in a stopped container", "POST /containers/stopped/exec", `{"Cmd":["true"]}`, 409,
		`container {stopped} is not running`},
	{"exec as an unknown user", "POST /containers/running/exec", `{"Cmd":["true"],"User":"nope"}`, 400,
		`unable to find user nope: no matching entries in passwd file`},
	{"unknown exec", "GET /exec/nope/json", "", 404, `No such exec instance: nope`},
	{"logs of neither stream", "GET /containers/running/logs", "", 400,
		`must specify at least one of 'stdout' or 'stderr'`},
	{"logs in another form", "GET /containers/running/logs?stdout=1&format=x", "", 400, `unsupported log format`},
	{"logs as JSON", "GET /containers/running/logs?stdout=1&format=json", "", 501, `logs as JSON are not built into Berth: .*`},
	{"wait for what never is", "POST /containers/running/wait?condition=nope", "", 400, `invalid condition: "nope"`},
	{"platform of an image", "GET /images/busybox/json?platform=x", "", 400, `failed to parse platform: .*`},
	{"who made images", "GET /images/json?identity=1", "", 400, `conflicting options: identity requires manifests=1`},
	{"unknown image", "GET /images/nope/json", "", 404, `No such image: nope:latest`},
	{"volume: short name", "POST /volumes/create", `{"Name":"a"}`, 400,
		`create a: volume name is too short, names should be at least two alphanumeric characters`},
	{"volume: unknown driver", "POST /volumes/create", `{"Name":"vol","Driver":"nope"}`, 404,
		`create vol: error looking up volume plugin nope: plugin "nope" not found`},
	{"volume: unknown option", "POST /volumes/create", `{"Name":"vol","DriverOpts":{"odd":"1"}}`, 400,
		`create vol: invalid option: "odd"`},
	{"volume: half the options", "POST /volumes/create", `{"Name":"vol","DriverOpts":{"type":"tmpfs"}}`, 400,
		`create vol: missing required option: "device"`},
	{"volume: quota", "POST /volumes/create", `{"Name":"vol","DriverOpts":{"size":"1m"}}`, 400,
		`create vol: quota size requested but no quota support`},
	{"volume of a swarm", "POST /volumes/create", `{"Name":"vol","ClusterVolumeSpec":{}}`, 503,
		`This node is not a swarm manager\. .*`},
	{"unknown volume", "GET /volumes/nope", "", 404, `get nope: no such volume`},
	{"removing an unknown volume", "DELETE /volumes/nope", "", 404, `get nope: no such volume`},
	{"filter of volumes", `GET /volumes?filters={"dangling":["x"]}`, "", 400, `invalid filter 'dangling=\[x\]'`},
	{"unknown filter of volumes", `GET /volumes?filters={"nope":["x"]}`, "", 400, `invalid filter 'nope'`},
	{"prune of volumes", `POST /volumes/prune?filters={"all":["x"]}`, "", 400,
		`invalid filter 'all': strconv.ParseBool: parsing "x": invalid syntax`},
	{"prune of volumes twice", `POST /volumes/prune?filters={"all":["1","0"]}`, "", 400,
		`invalid filter 'all=\[0 1\]': only one value is expected`},
	{"disk usage", "GET /system/df?type=nope", "", 400, `unknown object type: nope`},
	{"unknown path", "GET /nope", "", 404, `page not found`},
	{"wrong method", "PUT /containers/json", "", 404, `page not found`},
	{"version too old", "GET /v1.11/info", "", 400,
		`client version 1\.11 is too old\. Minimum supported API version is 1\.12, ` +
			`please upgrade your client to a newer version\n?`},
	{"version too new", "GET /v1.99/info", "", 400,
		`client version 1\.99 is too new\. Maximum supported API version is 1\.55`},
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Import("empty", "")
	running, stopped := d.Run("running", "sleep", "1000"), d.Create("stopped", harness.Spec("true"))
	before := inventory(d)
	requests := badOthers
	for _, r := range badCreates {
		r.name, r.request = "create: "+r.name, "POST /containers/create"+r.request
		requests = append(requests, r)
	}
	fill := strings.NewReplacer("{id}", running, "{stopped}", stopped)
	for _, tc := range requests {
		t.Run(tc.name, func(t *testing.T) {
			d := d.For(t)
			method, path, _ := strings.Cut(fill.Replace(tc.request), " ")
			resp, err := d.Try(method, strings.ReplaceAll(path, `"`, "%22"), tc.body)
			assert.NilError(t, err)
			assert.Equal(t, resp.Status, tc.status, resp.Body)
			assert.Assert(t, cmp.Regexp("^"+fill.Replace(tc.message)+"$", resp.Message()))
			assert.DeepEqual(t, inventory(d), before)
		})
	}
	t.Run("content type", func(t *testing.T) {
		resp, err := http.NewRequest("POST", "http://engine/containers/create", strings.NewReader(`{"Image":"busybox"}`))
		assert.NilError(t, err)
		resp.Header.Set("Content-Type", "text/plain")
		answer := d.Send(resp)
		assert.Equal(t, answer.Status, 400)
		assert.Equal(t, answer.Message(), "unsupported Content-Type header (text/plain): must be 'application/json'")
		assert.DeepEqual(t, inventory(d), before)
	})
	t.Run("archive that is none", func(t *testing.T) {
		resp := d.HTTP("POST", "/images/load", strings.NewReader("this is no archive"))
		assert.Assert(t, resp.Status >= 400 || strings.Contains(resp.Body, "errorDetail"), "%d %s", resp.Status, resp.Body)
		assert.DeepEqual(t, inventory(d), before)
	})
	assert.Assert(t, d.Inspect(running).State.Running)
}

// A client that goes away in the middle of its request leaves nothing behind either.
func TestBodyCutOff(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	before := inventory(d)
	archive := d.DockerArchive("cut:latest")
	for _, tc := range []struct {
		name, path, contentType string
		body                    []byte
	}{
		{"create", "/containers/create?name=cut", "application/json", []byte(`{"Image":"busybox","Cmd":["true"]`)},
		{"load", "/images/load", "application/x-tar", archive[:len(archive)/2]},
		{"import", "/images/create?fromSrc=-&repo=cut", "application/x-tar", archive[:len(archive)/2]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := d.For(t)
			conn, err := net.Dial("unix", d.File("s"))
			assert.NilError(t, err)
			defer conn.Close()
			assert.NilError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
			_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: engine\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
				tc.path, tc.contentType, len(tc.body)+1000, tc.body)
			assert.NilError(t, err)
			assert.NilError(t, conn.(*net.UnixConn).CloseWrite())
			answer, err := io.ReadAll(conn)
			assert.NilError(t, err)
			if tc.name == "create" {
				assert.Assert(t, cmp.Regexp(`(?s)^HTTP/1.1 400 Bad Request\r\n.*"invalid JSON: (unexpected EOF|got EOF .*)"`,
					string(answer)))
			} else {
				assert.Assert(t, !strings.Contains(string(answer), "Loaded image"), "%s", answer)
			}
			assert.DeepEqual(t, inventory(d), before)
		})
	}
}

// inventory is all that requests could leave behind: containers, images, volumes, and the containers' folders.
func inventory(d *harness.Daemon) []string {
	var images []struct{ ID string }
	d.OK("GET", "/images/json?all=1", nil, &images)
	all := d.Containers()
	for _, i := range images {
		all = append(all, i.ID)
	}
	all = append(all, volumes(d)...)
	folders, err := os.ReadDir(d.File("d", "containers"))
	if err != nil && !os.IsNotExist(err) {
		panic(err)
	}
	for _, f := range folders {
		all = append(all, f.Name())
	}
	return all
}
