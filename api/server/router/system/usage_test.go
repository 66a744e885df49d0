package system_test

import (
	"context"
	"slices"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/system"
	"github.com/berthd/berth/api/types/volume"
)

// SystemDiskUsage tells of an image, no container and a volume.
func (*engine) SystemDiskUsage(_ context.Context, o system.UsageOptions) (*system.DiskUsage, error) {
	du := &system.DiskUsage{Verbose: o.Verbose}
	asked := func(kind string) bool { return len(o.Types) == 0 || slices.Contains(o.Types, kind) }
	if asked(system.Images) {
		size, u := int64(7), &system.UsageOf[*image.Summary]{}
		u.Add(&image.Summary{ID: "i", Containers: 2, Size: 7, RepoTags: []string{"i"}, RepoDigests: []string{}}, true, 7, 7)
		list := slices.Clone(u.Items)
		du.LayersSize, du.ImageUsage, du.Images = &size, u, &list
	}
	if asked(system.Volumes) {
		u := &system.UsageOf[*volume.Volume]{}
		u.Add(&volume.Volume{Name: "v", UsageData: &volume.UsageData{Size: 5}}, false, 5, 5)
		list := slices.Clone(u.Items)
		du.VolumeUsage, du.Volumes = u, &list
	}
	return du, nil
}

func TestDiskUsage(t *testing.T) {
	_, url := serve(t)
	const (
		image1 = `"Containers":2,"Created":0,"Id":"i",`
		image2 = `"RepoTags":["i"],"SharedSize":0,"Size":7`
		old    = `"Images":[{` + image1 + `"Labels":null,"ParentId":"","RepoDigests":null,` + image2 + `,"VirtualSize":7}]`
		now    = `[{` + image1 + `"Labels":{},"ParentId":"","RepoDigests":[],` + image2 + `}]`
		vol    = `{"Driver":"","Labels":null,"Mountpoint":"","Name":"v","Options":null,"Scope":"",`
		vols   = `[` + vol + `"UsageData":{"RefCount":0,"Size":5}}]`
		iSum   = `"ImageUsage":{"ActiveCount":1,"TotalCount":1,"TotalSize":7`
		vSum   = `"VolumeUsage":{"TotalCount":1,"TotalSize":5,"Reclaimable":5`
	)
	for path, want := range map[string]string{
		"/v1.23/system/df": `{"LayersSize":7,` + old + `,"Containers":null,"Volumes":` + vols +
			`,"BuildCache":null,"BuilderSize":0}`,
		"/v1.41/system/df?type=volume&verbose=1": `{"LayersSize":7,` + old + `,"Containers":null,"Volumes":` + vols +
			`,"BuildCache":null}`,
		"/v1.51/system/df?type=volume": `{"LayersSize":0,"Images":null,"Containers":null,"Volumes":` + vols +
			`,"BuildCache":null}`,
		"/v1.52/system/df":             `{"LayersSize":7,"Images":` + now + `,"Volumes":` + vols + `,` + iSum + `},` + vSum + `}}`,
		"/v1.55/system/df?type=volume": `{"Volumes":` + vols + `,` + vSum + `}}`,
		"/v1.55/system/df?verbose=1":   `{` + iSum + `,"Items":` + now + `},` + vSum + `,"Items":` + vols + `}}`,
		"/v1.42/system/df?type=nope":   `{"message":"unknown object type: nope"}`,
	} {
		assert.Equal(t, body(t, ask(t, "GET", url+path)), want+"\n", path)
	}
}
