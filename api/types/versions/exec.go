package versions

import "github.com/berthd/berth/api/types/container"

// execChanges are the differences of what GET /exec/{id}/json answers.
func execChanges() []Change {
	return []Change{
		{Below: "1.24", What: "a command that cannot be started has the code 126, also if there is none", Do: []effect{
			response(func(x *container.ExecInspect) {
				if x.ExitCode != nil && *x.ExitCode == 127 && x.Pid == 0 {
					x.ExitCode = new(126)
				}
			})}},
	}
}
