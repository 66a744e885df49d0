package main

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		doc            string
		in             string
		out            string
		passed, failed int
	}{
		{
			doc: "what passes is one line a package",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"--- PASS: TestA\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`,
			out:    "ok  \tp\t0.1s\n",
			passed: 1,
		},
		{
			doc: "what fails is printed whole, and its package is not counted again",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"a_test.go:1: wrong\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"panic: oh\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`,
			out:    "a_test.go:1: wrong\nFAIL\tp\t0.1s\npanic: oh\n",
			failed: 1,
		},
		{
			doc: "a package that fails by itself counts",
			in: `{"Action":"output","Package":"p","Output":"panic: oh\n"}
{"Action":"fail","Package":"p"}
`,
			out:    "panic: oh\n",
			failed: 1,
		},
		{
			doc: "a skipped test is a failure",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"a_test.go:1: not here\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
`,
			out:    "a_test.go:1: not here\nskipped tests are not allowed: TestA\n",
			failed: 1,
		},
		{
			doc: "a package that does not build is a failure",
			in: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p.go:1:1: undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
`,
			out:    "p.go:1:1: undefined: x\n",
			failed: 1,
		},
		{
			doc: "a package without tests is neither",
			in:  `{"Action":"skip","Package":"p"}` + "\n",
		},
		{
			doc: "what is not an event is passed on",
			in:  "go: downloading\n",
			out: "go: downloading\n",
		},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			r.read(strings.NewReader(tc.in))
			assert.Equal(t, out.String(), tc.out)
			assert.Equal(t, r.passed, tc.passed)
			assert.Equal(t, r.failed, tc.failed)
		})
	}
}
