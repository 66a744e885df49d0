package lint

import (
	"os"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// What docs/embedding.md shows is part of the examples, which are compiled.
func TestEmbeddingIsCompiled(t *testing.T) {
	var examples strings.Builder
	for _, file := range []string{"../../example_test.go", "../../berthtest/example_test.go"} {
		b, err := os.ReadFile(file)
		assert.NilError(t, err)
		for line := range strings.Lines(string(b)) {
			examples.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	b, err := os.ReadFile("../../docs/embedding.md")
	assert.NilError(t, err)
	blocks := strings.Split(string(b), "```go\n")[1:]
	assert.Equal(t, len(blocks), 2)
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		for line := range strings.Lines(code) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "func Test") { // a function there, a variable in the example
				continue
			}
			assert.Check(t, strings.Contains(examples.String(), line+"\n"), "no example has the line %s", line)
		}
	}
}
