// Package volume holds the wire structs of the volume endpoints.
package volume

// Volume is what GET /volumes/{name} answers.
type Volume struct {
	CreatedAt  string `json:",omitempty"`
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

// ListResponse is what GET /volumes answers.
type ListResponse struct {
	Volumes  []*Volume
	Warnings []string
}
