package main

import (
	"os"
	"strings"
)

const (
	imageName = "localhost/bench"
	// outputLine times outputLines are the 100 MB that the file of every container has, for it to write out.
	outputLines = 833_333
	outputLine  = 120
)

// writeLines writes the file that containers see as /lines.
func writeLines(path string) error {
	line := strings.Repeat("x", outputLine-1) + "\n"
	return os.WriteFile(path, []byte(strings.Repeat(line, outputLines)), 0o644)
}
