package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// StockRuntime is the runtime that every engine has; ShimRuncV2 is its other name, and the name of its shim.
const (
	StockRuntime = "runc"
	ShimRuncV2   = "io.containerd.runc.v2"
)

// Bytes is a size. In the file it is a number of bytes or a text such as "64M"; as a flag it is the latter.
type Bytes int64

// Set reads a size such as 64M or 1g: powers of 1024.
func (b *Bytes) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil {
		return err
	}
	*b = Bytes(n)
	return nil
}

// UnmarshalJSON reads a number or a text.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	if !bytes.HasPrefix(data, []byte(`"`)) {
		return json.Unmarshal(data, (*int64)(b))
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	return b.Set(s)
}

// Proxies are the proxies that the engine itself uses. They may hold passwords: show them through Masked.
type Proxies struct {
	HTTP  string `json:"http-proxy"`
	HTTPS string `json:"https-proxy"`
	No    string `json:"no-proxy"`
}

// MaskProxy returns a proxy's URL with user and password made unreadable.
func MaskProxy(s string) string {
	start := 0
	if i := strings.Index(s, "://"); i >= 0 {
		start = i + len("://")
	}
	// A password may hold any character, written badly: whatever stands before the last @ is taken for one.
	at := strings.LastIndexByte(s, '@')
	if at < start {
		return s
	}
	return s[:start] + "xxxxx:xxxxx" + s[at:]
}

// Runtime says how containers of that runtime are run: by a binary under the stock shim, or by a shim of its own.
type Runtime struct {
	Path    string         `json:"path,omitempty"`
	Args    []string       `json:"runtimeArgs,omitempty"`
	Type    string         `json:"runtimeType,omitempty"`
	Options map[string]any `json:"options,omitempty"`
}

// UnmarshalJSON refuses fields that nobody knows. Tools write an empty "args" beside the path; that one is let pass.
func (r *Runtime) UnmarshalJSON(data []byte) error {
	var in struct {
		Path    string         `json:"path"`
		Args    []string       `json:"runtimeArgs"`
		Type    string         `json:"runtimeType"`
		Options map[string]any `json:"options"`
		Unknown []string       `json:"args"`
	}
	if err := decodeStrict(data, &in); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field == "" {
			wrong.Type = reflect.TypeFor[Runtime]()
		}
		return err
	}
	if len(in.Unknown) > 0 {
		return errors.New(`"args" has no effect: write "runtimeArgs"`)
	}
	*r = Runtime{Path: in.Path, Args: in.Args, Type: in.Type, Options: in.Options}
	return nil
}

// Runtimes are OCI runtimes by name.
type Runtimes map[string]Runtime

// Set reads name=path, as --add-runtime has it.
func (r Runtimes) Set(s string) error {
	name, path, ok := strings.Cut(s, "=")
	name, path = strings.TrimSpace(name), strings.TrimSpace(path)
	if !ok || name == "" || path == "" {
		return fmt.Errorf("invalid runtime %q: write name=path", s)
	}
	if _, twice := r[name]; twice {
		return fmt.Errorf("runtime %q is given twice", name)
	}
	r[name] = Runtime{Path: path}
	return nil
}

// Ulimits are limits of processes by name, such as nofile. -1 means unlimited.
type Ulimits map[string]units.Ulimit

// Set reads name=soft[:hard].
func (u Ulimits) Set(s string) error {
	l, err := units.ParseUlimit(s)
	if err != nil {
		return err
	}
	u[l.Name] = *l
	return nil
}

// AddressPool is a range of addresses that is cut into networks of Size bits.
type AddressPool struct {
	Base string `json:"base"`
	Size int    `json:"size"`
}

// AddressPools are where networks without a subnet of their own get one.
type AddressPools []AddressPool

// Set reads base=CIDR,size=BITS.
func (p *AddressPools) Set(s string) error {
	var pool AddressPool
	for field := range strings.SplitSeq(s, ",") {
		k, v, _ := strings.Cut(field, "=")
		switch strings.TrimSpace(k) {
		case "base":
			pool.Base = strings.TrimSpace(v)
		case "size":
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil {
				return fmt.Errorf("invalid size of an address pool: %q", v)
			}
			pool.Size = n
		default:
			return fmt.Errorf("invalid address pool %q: write base=CIDR,size=BITS", s)
		}
	}
	*p = append(*p, pool)
	return nil
}

// NRIOpts are the options of node resource plugins.
type NRIOpts struct {
	Enable           bool   `json:"enable"`
	PluginPath       string `json:"plugin-path,omitempty"`
	PluginConfigPath string `json:"plugin-config-path,omitempty"`
	SocketPath       string `json:"socket-path,omitempty"`
}

// Set reads key=value pairs, separated by commas.
func (o *NRIOpts) Set(s string) error {
	for field := range strings.SplitSeq(s, ",") {
		k, v, _ := strings.Cut(field, "=")
		switch k {
		case "enable":
			b, err := strconv.ParseBool(v)
			if err != nil {
				return fmt.Errorf("invalid value of enable: %q", v)
			}
			o.Enable = b
		case "plugin-path":
			o.PluginPath = v
		case "plugin-config-path":
			o.PluginConfigPath = v
		case "socket-path":
			o.SocketPath = v
		default:
			return fmt.Errorf("unknown NRI option %q", k)
		}
	}
	return nil
}

// Object is a JSON object that Berth does not look into.
type Object map[string]any

// decodeStrict decodes JSON and refuses fields that the target does not have.
func decodeStrict(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(to)
}
