package versions

import "github.com/berthd/berth/api/types/system"

func usage(f func(*system.DiskUsage)) []effect { return []effect{response(f)} }

// usageChanges are the differences of GET /system/df.
func usageChanges() []Change {
	return []Change{
		{Below: "1.42", What: "disk usage is of all kinds of objects", Do: []effect{
			request(func(o *system.UsageOptions) ([]string, error) {
				o.Types = nil
				return nil, nil
			})}},
		{Below: "1.52", What: "no sums of disk usage", Do: usage(func(du *system.DiskUsage) {
			du.ImageUsage, du.ContainerUsage, du.VolumeUsage, du.BuildCacheUsage = nil, nil, nil, nil
		})},
		{Below: "1.52", What: "what was not asked for is null", Do: usage(func(du *system.DiskUsage) {
			present(&du.LayersSize)
			present(&du.Images)
			present(&du.Containers)
			present(&du.Volumes)
			present(&du.BuildCache)
		})},
		{Below: "1.24", What: "the build cache is null and has a size", Do: usage(func(du *system.DiskUsage) {
			du.BuildCache, du.BuilderSize = new([]struct{}), new(int64)
		})},
		{From: "1.52", What: "objects are listed once, beside the sums if verbose", Do: usage(func(du *system.DiskUsage) {
			absentIf(&du.LayersSize, du.Verbose || du.LayersSize != nil && *du.LayersSize == 0)
			if du.Verbose {
				du.Images, du.Containers, du.Volumes, du.BuildCache = nil, nil, nil, nil
				return
			}
			forgetItems(du.ImageUsage)
			forgetItems(du.ContainerUsage)
			forgetItems(du.VolumeUsage)
		})},
	}
}

func forgetItems[T any](u *system.UsageOf[T]) {
	if u != nil {
		u.Items = nil
	}
}
