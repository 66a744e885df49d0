package runtimes

import (
	"context"
	"regexp"
)

// Version is what a program says of itself; what it does not say is empty.
type Version struct{ Version, Commit string }

// Unknown is the version of a program that is not there, or does not tell.
var Unknown = Version{Version: "N/A", Commit: "N/A"}

// As runc and crun have them, and tini: "tini version 0.19.0 - git.de40ad0".
var (
	reVersion = regexp.MustCompile(`(?m)^\S+ version (\S+)`)
	reCommit  = regexp.MustCompile(`(?m)(?:^commit: *| - git\.)(\S+)`)
)

// AskVersion runs "<path> --version".
func AskVersion(ctx context.Context, path string) Version {
	out, err := output(ctx, path, "--version")
	if err != nil {
		return Unknown
	}
	return parseVersion(string(out))
}

func parseVersion(text string) (v Version) {
	if m := reVersion.FindStringSubmatch(text); m != nil {
		v.Version = m[1]
	}
	if m := reCommit.FindStringSubmatch(text); m != nil {
		v.Commit = m[1]
	}
	return v
}
