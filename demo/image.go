package main

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"strings"
)

// busybox is a root file system with nothing but busybox and its commands, as a tar archive. The busybox has to be
// static: there is no library in the image.
func busybox() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	commands, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	headers := []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
		{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))},
	}
	for _, c := range strings.Fields(string(commands)) {
		if c != "busybox" {
			headers = append(headers, &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + c, Linkname: "busybox"})
		}
	}
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(program); err != nil {
				return nil, err
			}
		}
	}
	return b.Bytes(), w.Close()
}
