package config

import (
	"fmt"
	"strings"
	"testing"

	"gotest.tools/v3/golden"
)

// The documentation says what the table says. `make docs` writes it anew.
func TestDocumentation(t *testing.T) {
	golden.Assert(t, documentation(), "../../../docs/configuration.md")
}

const aboutKeys = `# The configuration

This page is made of the table in daemon/config/table.go. To change it, change the table and run ` + "`make docs`" + `.

The configuration is a function of defaults, environment, flags and file, never of what was loaded before. A flag and a
key of the file for the same thing are an error that names both; runtimes alone are united, and the file wins. An
unknown key is an error that names the nearest known one. Where 0, an empty text or an empty list is no value that a key
could have, it means that the key is not set.

A reload (` + "`berthd reload`" + `, SIGHUP, or ` + "`POST /berth/config/reload`" + `) puts in force what the
column *Reload* calls applied. For other keys the running value stays until the daemon is started anew, and the reload
says so. If anything is wrong, nothing is applied. Files that keys name, such as certificates, are read again at each
reload.

| Key | Type | Default | Flag | Reload | What it does |
|---|---|---|---|---|---|
`

func documentation() string {
	var b strings.Builder
	b.WriteString(aboutKeys)
	for _, k := range Keys() {
		flag := ""
		if k.Flag != "" {
			flag = "`--" + k.Flag + "`"
		}
		if k.Short != "" {
			flag += " `-" + k.Short + "`"
		}
		reload := "needs restart"
		if k.Reloadable {
			reload = "applied"
		}
		doc := k.Doc
		if k.Missing != "" {
			doc += " Not built yet (" + k.Missing + "): only the default is accepted."
		}
		for _, env := range k.Env {
			doc += " `$" + env + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s | %s |\n", k.Path(), k.Type(), k.DefaultText(), flag, reload,
			strings.ReplaceAll(doc, "|", `\|`))
	}
	return b.String()
}
