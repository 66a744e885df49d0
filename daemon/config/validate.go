package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The versions of the API that Berth can be held to.
const (
	lowestAPIVersion  = "1.12"
	highestAPIVersion = "1.55"
)

// Validate returns all faults of c, each as a KeyError, in the order of the table; nil when there is none. It looks at
// the configuration only: not at files that it names, nor at what a log driver or runtime makes of its options.
func (c Config) Validate() error {
	defaults := Default()
	var errs []error
	for _, k := range table {
		if k.check != nil {
			if err := k.check(&c); err != nil {
				errs = append(errs, &KeyError{Key: k.Path(), Err: err})
				continue
			}
		}
		if k.Missing == "" {
			continue
		}
		if !k.same(&c, &defaults) && (k.harmless == nil || !k.harmless(&c)) {
			errs = append(errs, keyErrorf(k.Path(), "%s is about %s, which this version of Berth does not have: "+
				"leave the key out, or at its default %s", k.Path(), k.Missing, k.json(&defaults)))
		}
	}
	return errors.Join(errs...)
}

// collectsOnly tells that the builder is told nothing but how much of its cache it may keep: there is none to keep.
func collectsOnly(c *Config) bool {
	for name := range c.Builder {
		if name != "gc" {
			return false
		}
	}
	return true
}

// onlyOverrides tells that no storage option is more than the old switch that makes dockerd's overlay2 skip a check of
// the kernel.
func onlyOverrides(c *Config) bool {
	return !slices.ContainsFunc(c.StorageOpts, func(opt string) bool {
		return !strings.HasPrefix(opt, "overlay2.override_kernel_check=")
	})
}

func checkStorageDriver(c *Config) error {
	switch c.StorageDriver {
	case "", "overlayfs", "native":
		return nil
	}
	return fmt.Errorf("invalid storage driver: %s: use overlayfs or native", c.StorageDriver)
}

func checkEmbeddedContainerd(c *Config) error {
	if c.CRIContainerd && c.Features["embedded-containerd"] {
		return errors.New(`conflicting options: cannot use the "embedded-containerd" feature and CRI support ` +
			`(--cri-containerd) at the same time`)
	}
	return nil
}

func checkMetricsAddr(c *Config) error {
	if c.MetricsAddr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(c.MetricsAddr)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
		return fmt.Errorf("invalid metrics-addr %q: write ADDRESS:PORT, such as 127.0.0.1:9323", c.MetricsAddr)
	}
	return nil
}

func checkHosts(c *Config) error {
	var errs []error
	for _, h := range c.Hosts {
		if _, err := ParseHost(h, c.TLS); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func checkMinAPIVersion(c *Config) error {
	v := c.MinAPIVersion
	if strings.HasPrefix(v, "v") {
		return fmt.Errorf(`invalid minimum API version (%s): API version must be provided without "v" prefix`, v)
	}
	major, minor, _ := strings.Cut(v, ".")
	n, err := strconv.Atoi(minor)
	_, lowest, _ := strings.Cut(lowestAPIVersion, ".")
	_, highest, _ := strings.Cut(highestAPIVersion, ".")
	from, _ := strconv.Atoi(lowest)
	to, _ := strconv.Atoi(highest)
	if major != "1" || err != nil || strconv.Itoa(n) != minor || n < from || n > to {
		return fmt.Errorf("invalid minimum API version (%s): must be between %s and %s",
			v, lowestAPIVersion, highestAPIVersion)
	}
	return nil
}

func checkLogLevel(c *Config) error {
	switch strings.ToLower(c.LogLevel) {
	case "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic":
		return nil
	}
	return fmt.Errorf("invalid logging level: %s: use trace, debug, info, warn, error, fatal or panic", c.LogLevel)
}

func checkLogFormat(c *Config) error {
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("invalid log format: %s", c.LogFormat)
	}
	return nil
}

// checkLabels also refuses the names that docker's own tools keep for themselves.
func checkLabels(c *Config) error {
	var errs []error
	values := map[string]string{}
	for _, label := range c.Labels {
		k, v, ok := strings.Cut(label, "=")
		before, twice := values[k]
		lower := strings.ToLower(k)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("bad attribute format: %s", label))
		case strings.HasPrefix(lower, "com.docker."), strings.HasPrefix(lower, "io.docker."),
			strings.HasPrefix(lower, "org.dockerproject."):
			errs = append(errs, fmt.Errorf("label %s is not allowed: the namespaces com.docker.*, io.docker.*, "+
				"and org.dockerproject.* are reserved for internal use", label))
		case twice && before != v:
			errs = append(errs, fmt.Errorf("conflict labels for %s=%s and %s=%s", k, before, k, v))
		default:
			values[k] = v
		}
	}
	return errors.Join(errs...)
}

func checkDefaultStopTimeout(c *Config) error {
	return notNegative("default stop timeout", c.DefaultStopTimeout)
}
func checkMTU(c *Config) error { return notNegative("default MTU", c.MTU) }
func checkDownloads(c *Config) error {
	return notNegative("max concurrent downloads", c.MaxConcurrentDownloads)
}
func checkUploads(c *Config) error {
	return notNegative("max concurrent uploads", c.MaxConcurrentUploads)
}
func checkAttempts(c *Config) error {
	return notNegative("max download attempts", c.MaxDownloadAttempts)
}

func notNegative(what string, n int) error {
	if n < 0 {
		return fmt.Errorf("invalid %s: %d", what, n)
	}
	return nil
}

func checkShmSize(c *Config) error {
	if c.DefaultShmSize < 0 {
		return fmt.Errorf("invalid default-shm-size: %d", c.DefaultShmSize)
	}
	return nil
}

func checkUlimits(c *Config) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.DefaultUlimits)) {
		l := c.DefaultUlimits[name]
		_, err := l.GetRlimit()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("invalid default-ulimits: %s: %w", name, err))
		case l.Name != name:
			errs = append(errs, fmt.Errorf("invalid default-ulimits: %s: the entry says %s", name, l.Name))
		case l.Hard != -1 && (l.Soft > l.Hard || l.Soft == -1):
			errs = append(errs, fmt.Errorf("invalid default-ulimits: %s: soft limit %d is above hard limit %d",
				name, l.Soft, l.Hard))
		case l.Hard < -1 || l.Soft < -1:
			errs = append(errs, fmt.Errorf("invalid default-ulimits: %s: %d is negative", name, min(l.Hard, l.Soft)))
		}
	}
	return errors.Join(errs...)
}

func checkIpcMode(c *Config) error {
	switch mode := c.DefaultIpcMode; mode {
	case "private", "shareable":
		return nil
	case "host", "none":
		return fmt.Errorf(`IPC mode "%s" is not supported as default value; use "shareable" or "private"`, mode)
	default:
		if strings.HasPrefix(mode, "container:") {
			return fmt.Errorf(`IPC mode "%s" is not supported as default value; use "shareable" or "private"`, mode)
		}
		return fmt.Errorf(`default IPC mode setting (%s) is invalid; use "shareable" or "private"`, mode)
	}
}

func checkCgroupnsMode(c *Config) error {
	if c.DefaultCgroupnsMode != "host" && c.DefaultCgroupnsMode != "private" {
		return fmt.Errorf(`invalid default cgroup namespace (%s): use "host" or "private"`, c.DefaultCgroupnsMode)
	}
	return nil
}

func checkSeccomp(c *Config) error {
	p := c.SeccompProfile
	if p == "builtin" || p == "unconfined" || filepath.IsAbs(p) {
		return nil
	}
	return fmt.Errorf("invalid seccomp-profile: %s: use builtin, unconfined, or an absolute path", p)
}

func checkExecOpts(c *Config) error {
	var errs []error
	for _, opt := range c.ExecOpts {
		k, v, ok := strings.Cut(opt, "=")
		switch {
		case !ok || k == "" || v == "":
			errs = append(errs, fmt.Errorf("invalid exec-opt (%s): must be formatted 'opt=value'", opt))
		case k == "isolation":
			errs = append(errs, errors.New("option 'isolation' is only supported on windows"))
		case k != "native.cgroupdriver":
			errs = append(errs, fmt.Errorf("invalid exec-opt (%s): unknown option: '%s'", opt, k))
		case v != "cgroupfs" && v != "systemd":
			errs = append(errs, fmt.Errorf("invalid exec-opt (%s): use cgroupfs or systemd", opt))
		}
	}
	return errors.Join(errs...)
}

func checkBIP(c *Config) error {
	if p, err := netip.ParsePrefix(c.BIP); err == nil && p.Addr().Is4() && p.Bits() < 31 && p == p.Masked() {
		return fmt.Errorf("invalid bip: %s is the address of the network itself: write the bridge's own, such as %s/%d",
			p.Addr(), p.Addr().Next(), p.Bits())
	}
	return checkRange("bip", c.BIP, false)
}
func checkBIP6(c *Config) error      { return checkRange("bip6", c.BIP6, true) }
func checkFixedCIDR(c *Config) error { return checkRange("fixed-cidr", c.FixedCIDR, false) }

// checkRange wants an address with a prefix length, such as 10.1.2.3/24, or nothing.
func checkRange(key, value string, v6 bool) error {
	if p, err := netip.ParsePrefix(value); value != "" && (err != nil || p.Addr().Is6() != v6) {
		return fmt.Errorf("invalid %s: %q is not an address with its prefix length, such as 10.1.2.1/24 or fd00::1/64", key, value)
	}
	return nil
}

func checkGateway(c *Config) error { return checkAddr("default-gateway", c.DefaultGateway, false) }
func checkGatewayV6(c *Config) error {
	return checkAddr("default-gateway-v6", c.DefaultGatewayV6, true)
}
func checkIP(c *Config) error { return checkAddr("ip", c.IP, strings.Contains(c.IP, ":")) }

func checkAddr(key, value string, v6 bool) error {
	if a, err := netip.ParseAddr(value); value != "" && (err != nil || a.Is6() != v6) {
		return fmt.Errorf("invalid %s: %q is not an address of the right family", key, value)
	}
	return nil
}

func checkHostGateway(c *Config) error {
	var errs []error
	for _, ip := range c.HostGatewayIPs {
		errs = append(errs, checkAddr("host-gateway-ips", ip, strings.Contains(ip, ":")))
	}
	return errors.Join(errs...)
}

func checkPools(c *Config) error {
	var errs []error
	for _, p := range c.DefaultAddressPools {
		base, err := netip.ParsePrefix(p.Base)
		if err != nil || p.Size < base.Bits() || p.Size > base.Addr().BitLen() {
			errs = append(errs, fmt.Errorf("invalid default-address-pools: base %q, size %d: a base is a range such as "+
				"10.0.0.0/8, and a size the prefix length of the networks that it is cut into", p.Base, p.Size))
		}
	}
	return errors.Join(errs...)
}

func checkDNS(c *Config) error {
	var errs []error
	for _, s := range c.DNS {
		if _, err := netip.ParseAddr(s); err != nil {
			errs = append(errs, fmt.Errorf("invalid dns: %w", err))
		}
	}
	return errors.Join(errs...)
}

func checkDNSSearch(c *Config) error {
	const part = `[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?`
	domain := regexp.MustCompile(`^` + part + `(\.` + part + `)*\.?$`)
	var errs []error
	for _, s := range c.DNSSearch {
		if s != "." && (len(s) > 255 || !domain.MatchString(s)) {
			errs = append(errs, fmt.Errorf("%s is not a valid domain", s))
		}
	}
	return errors.Join(errs...)
}

func checkInsecureRegistries(c *Config) error {
	for _, r := range c.InsecureRegistries {
		if strings.Contains(r, "://") {
			return fmt.Errorf("insecure registry %s should not contain '://'", r)
		}
	}
	return nil
}

func checkMirrors(c *Config) error {
	var errs []error
	for _, m := range c.RegistryMirrors {
		u, err := url.Parse(m)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("invalid mirror: %q is not a valid URI", MaskProxy(m)))
		case u.Scheme != "http" && u.Scheme != "https":
			errs = append(errs, fmt.Errorf("invalid mirror: unsupported scheme %q in %q", u.Scheme, MaskProxy(m)))
		case u.User != nil:
			errs = append(errs, fmt.Errorf("invalid mirror: username/password not allowed in URI %q", MaskProxy(m)))
		case u.RawQuery != "" || u.Fragment != "":
			errs = append(errs, fmt.Errorf("invalid mirror: query or fragment at end of the URI %q", m))
		}
	}
	return errors.Join(errs...)
}

func checkFwmark(c *Config) error {
	_, _, err := c.fwmark()
	return err
}

func (c *Config) fwmark() (mark, mask uint32, _ error) {
	if c.BridgeAcceptFwmark == "" {
		return 0, 0, nil
	}
	first, second, hasMask := strings.Cut(c.BridgeAcceptFwmark, "/")
	n, err := strconv.ParseUint(first, 0, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("invalid bridge-accept-fwmark: invalid firewall mark %q: %w", first, err)
	}
	bits := uint64(math.MaxUint32)
	if hasMask {
		if bits, err = strconv.ParseUint(second, 0, 32); err != nil {
			return 0, 0, fmt.Errorf("invalid bridge-accept-fwmark: invalid firewall mask %q: %w", second, err)
		}
	}
	return uint32(n), uint32(bits), nil
}

// FirewallMark is what bridge-accept-fwmark says: mask is 0 where there is none.
func (c *Config) FirewallMark() (mark, mask uint32) {
	mark, mask, _ = c.fwmark() // it was checked when the configuration was loaded
	return mark, mask
}

func checkFirewall(c *Config) error {
	switch c.FirewallBackend {
	case "", "nftables":
		return nil
	}
	return errors.New(`invalid firewall-backend: the firewall is written by "nftables", and by nothing else`)
}

func checkFixedCIDRv6(c *Config) error {
	if c.FixedCIDRv6 == "" {
		return nil
	}
	p, err := netip.ParsePrefix(c.FixedCIDRv6)
	if err != nil {
		return fmt.Errorf("invalid fixed-cidr-v6: %w", err)
	}
	if p.Addr().Is4() {
		return fmt.Errorf("invalid fixed-cidr-v6: %s is not an IPv6 range", c.FixedCIDRv6)
	}
	return nil
}

func checkDiagnosticPort(c *Config) error {
	if p := c.NetworkDiagnosticPort; p < 0 || p > 65535 {
		return fmt.Errorf("invalid network-diagnostic-port (%d): value must be between 0 and 65535", p)
	}
	return nil
}

func checkProxyPath(c *Config) error {
	if c.UserlandProxyPath != "" && !filepath.IsAbs(c.UserlandProxyPath) {
		return fmt.Errorf("invalid userland-proxy-path: must be an absolute path: %s", c.UserlandProxyPath)
	}
	return nil
}
