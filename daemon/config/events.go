package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// EventAttributes returns what the reload event says of a configuration in force: the attributes that dockerd 29 has,
// without the host's name. Equal configurations give equal attributes.
func EventAttributes(c Config) map[string]string {
	runtimes := make([]string, 0, len(c.Runtimes))
	for _, name := range slices.Sorted(maps.Keys(c.Runtimes)) {
		runtimes = append(runtimes, name+":"+c.Runtimes[name].Path)
	}
	return map[string]string{
		"debug":                    strconv.FormatBool(c.Debug),
		"live-restore":             strconv.FormatBool(c.LiveRestore),
		"default-cgroupns-mode":    c.DefaultCgroupnsMode,
		"default-ipc-mode":         c.DefaultIpcMode,
		"default-runtime":          c.DefaultRuntime,
		"default-shm-size":         strconv.FormatInt(int64(c.DefaultShmSize), 10),
		"default-stop-timeout":     strconv.Itoa(c.DefaultStopTimeout),
		"shutdown-timeout":         strconv.Itoa(c.ShutdownTimeout),
		"max-concurrent-downloads": strconv.Itoa(c.MaxConcurrentDownloads),
		"max-concurrent-uploads":   strconv.Itoa(c.MaxConcurrentUploads),
		"max-download-attempts":    strconv.Itoa(c.MaxDownloadAttempts),
		"labels":                   jsonList(c.Labels),
		"insecure-registries":      jsonList(c.InsecureRegistries),
		"registry-mirrors":         jsonList(c.RegistryMirrors),
		// fmt prints maps sorted by key.
		"features": fmt.Sprint(c.Features),
		"runtimes": strings.Join(runtimes, " "),
	}
}

func jsonList(list []string) string {
	if list == nil {
		return "[]"
	}
	data, err := json.Marshal(list)
	if err != nil {
		return "[]"
	}
	return string(data)
}
