package main

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"strings"
)

const (
	imageName = "localhost/bench"
	// outputLine times outputLines are the 100 MB that the file of every container has, for it to write out.
	outputLines = 833_333
	outputLine  = 120
)

// busybox is a root file system with what the containers run, as a tar archive. The busybox has to be static.
func busybox() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	headers := []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))},
	}
	for _, name := range []string{"true", "sleep", "cat"} {
		headers = append(headers, &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"})
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if h.Size > 0 {
			if _, err := w.Write(program); err != nil {
				return nil, err
			}
		}
	}
	return b.Bytes(), w.Close()
}

// writeLines writes the file that containers see as /lines.
func writeLines(path string) error {
	line := strings.Repeat("x", outputLine-1) + "\n"
	return os.WriteFile(path, []byte(strings.Repeat(line, outputLines)), 0o644)
}
