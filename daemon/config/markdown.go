package config

import (
	"fmt"
	"strings"
)

// Markdown returns the documentation of all keys as a table.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| Key | Type | Default | Flag | Reload | What it does |\n|---|---|---|---|---|---|\n")
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
			reload = "–"
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
