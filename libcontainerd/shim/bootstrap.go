package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/internal/priority"
)

// maxVersion is the newest version of the task API that is spoken.
const maxVersion = 3

// maxSocketDir is how long the path of a directory can be for a socket whose name is a SHA-256.
const maxSocketDir = 107 - len("/") - 64

// endpoint is where a Foreign says that it is.
type endpoint struct {
	Version  int32  `json:"version"`
	Address  string `json:"address"`
	Protocol string `json:"protocol"`
}

// launch has the shim started. It is asked in the words of containerd 2.3 first: a shim that is older than these fails
// before it does anything.
func (s *foreign) launch(ctx context.Context) (endpoint, error) {
	self, err := os.Executable()
	if err != nil {
		return endpoint{}, err
	}
	// Short, wherever this directory is.
	ttrpcAddress := fmt.Sprintf("/proc/%d/cwd/%s", os.Getpid(), eventsSocket)
	params := &bootapi.BootstrapParams{
		InstanceID: s.Container, Namespace: Namespace, ContainerdTtrpcAddress: ttrpcAddress, ContainerdBinary: self,
	}
	if s.Debug {
		params.LogLevel = bootapi.LogLevel_LOG_LEVEL_DEBUG
	}
	if dir, err := os.Getwd(); err == nil && len(dir) <= maxSocketDir {
		params.SocketDir = &dir // so that the socket of a shim that is killed goes with the directory
	}
	var old []byte
	if s.Options != nil {
		if err := params.AddExtension(s.Options); err != nil {
			return endpoint{}, err
		}
		if old, err = proto.Marshal(s.Options); err != nil {
			return endpoint{}, err
		}
	}
	stdin, err := proto.Marshal(params)
	if err != nil {
		return endpoint{}, err
	}
	out, err := s.call(ctx, ttrpcAddress, stdin, "start")
	if err != nil {
		var oldErr error
		if out, oldErr = s.call(ctx, ttrpcAddress, old, "start"); oldErr != nil {
			return endpoint{}, fmt.Errorf("failed to start shim: %w", errors.Join(oldErr, err))
		}
	}
	return parseEndpoint(out)
}

// call runs the shim's binary for one of the actions that containerd's protocol has, and returns what it prints.
func (f *Foreign) call(ctx context.Context, ttrpcAddress string, stdin []byte, action string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-namespace", Namespace, "-address", "", "-publish-binary", self, "-id", f.Container}
	if action == "delete" {
		args = append(args, "-bundle", f.Bundle)
	}
	if f.Debug {
		args = append(args, "-debug")
	}
	cmd := exec.CommandContext(ctx, f.Binary, append(args, action)...)
	cmd.Dir = f.Bundle
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "MAX_SHIM_VERSION="+strconv.Itoa(maxVersion),
		"TTRPC_ADDRESS="+ttrpcAddress, "GRPC_ADDRESS=", "NAMESPACE="+Namespace)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var out []byte
	err = priority.Ordinary(func() error {
		out, err = cmd.Output()
		return err
	})
	if err != nil {
		text := bytes.TrimSpace(append(bytes.TrimSpace(stderr.Bytes()), bytes.TrimSpace(out)...))
		return nil, fmt.Errorf("%s %s: %w: %s", f.Binary, action, err, text)
	}
	return out, nil
}

// DeleteForeign has the binary of a Foreign that has gone remove its container, processes included.
func DeleteForeign(ctx context.Context, f Foreign) error {
	_, err := f.call(ctx, "", nil, "delete")
	return err
}

// parseEndpoint reads what start prints: a BootstrapResult since containerd 2.3, the same as JSON since 1.7, or only an
// address before.
func parseEndpoint(out []byte) (e endpoint, err error) {
	text := strings.TrimSpace(string(out))
	switch {
	case strings.HasPrefix(text, "{"):
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return e, fmt.Errorf("read what the shim answers to start: %w", err)
		}
	case strings.HasPrefix(text, "unix:"), strings.HasPrefix(text, "/"):
		e = endpoint{Version: 2, Address: text, Protocol: "ttrpc"}
	default:
		var r bootapi.BootstrapResult
		if err := proto.Unmarshal(out, &r); err != nil || r.Address == "" {
			return e, fmt.Errorf("the shim answers to start what is no address: %q", text)
		}
		e = endpoint{Version: r.Version, Address: r.Address, Protocol: r.Protocol}
	}
	if e.Protocol != "ttrpc" {
		return e, fmt.Errorf("the shim speaks %s; Berth speaks ttrpc", e.Protocol)
	}
	if e.Version < 2 || e.Version > maxVersion {
		return e, fmt.Errorf("the shim speaks version %d of the task API; Berth speaks 2 and 3", e.Version)
	}
	return e, nil
}
