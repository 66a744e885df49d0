package stats

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/priority"
)

// rePSTitle finds a column that is given another title. PID has to be the processes' ids.
var rePSTitle = regexp.MustCompile(`\s(\S*)=\s*(PID\S*)`)

// CheckPS refuses arguments of ps with which the container's processes could not be told from others.
func CheckPS(args string) error {
	for _, m := range rePSTitle.FindAllStringSubmatch(args, -1) {
		if m[1] != "pid" {
			return errdefs.Systemf("specifying \"%s=%s\" is not allowed", m[1], m[2])
		}
	}
	return nil
}

// PS lists the processes of container id, whose main process is pid, as the host's ps shows them with args.
func PS(ctx context.Context, id string, pid int, args string) (containertypes.TopResponse, error) {
	pids, err := processes(id, pid)
	if err != nil {
		return containertypes.TopResponse{}, err
	}
	out, err := ps(ctx, args, pids)
	if err != nil {
		return containertypes.TopResponse{}, err
	}
	return parsePS(out, pids)
}

// ps runs the host's ps: first for these processes alone, then, as not all arguments go with that, for all.
func ps(ctx context.Context, args string, pids []int) ([]byte, error) {
	var list []string
	for _, pid := range pids {
		list = append(list, strconv.Itoa(pid))
	}
	own := strings.Fields(args)
	run := func(args []string) (out []byte, err error) {
		err = priority.Ordinary(func() (err error) {
			out, err = exec.CommandContext(ctx, "ps", args...).Output()
			return err
		})
		return out, err
	}
	out, err := run(append(slices.Clone(own), "-q"+strings.Join(list, ",")))
	if err != nil && !errors.Is(err, exec.ErrNotFound) && ctx.Err() == nil {
		out, err = run(own)
	}
	return out, psError(err)
}

func psError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return errdefs.Systemf("the processes cannot be listed: install ps on the host (Debian's package procps): %w", err)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		first, _, _ := strings.Cut(string(exit.Stderr), "\n") // the others explain how to call it
		return errdefs.Systemf("ps: %s", first)
	}
	return errdefs.Systemf("Error running ps: %w", err)
}

// parsePS takes the rows of the given processes out of what ps wrote. The last column may have blanks in it.
func parsePS(out []byte, pids []int) (containertypes.TopResponse, error) {
	titles, rows, _ := strings.Cut(string(out), "\n")
	resp := containertypes.TopResponse{Titles: strings.Fields(titles), Processes: [][]string{}}
	at := slices.Index(resp.Titles, "PID")
	if at < 0 {
		return resp, errdefs.Systemf("Couldn't find PID field in ps output")
	}
	ours := false // of the process in the row before
	for row := range strings.Lines(rows) {
		fields := strings.Fields(row)
		if len(fields) == 0 {
			continue
		}
		if fields[0] == "-" { // a thread of the process in the row before
			if ours {
				resp.Processes = append(resp.Processes, joinLast(fields, len(resp.Titles)))
			}
			continue
		}
		if len(fields) <= at {
			return resp, errdefs.Systemf("Unexpected row of ps: %q", row)
		}
		pid, err := strconv.Atoi(fields[at])
		if err != nil {
			return resp, errdefs.Systemf("Unexpected pid '%s': %w", fields[at], err)
		}
		if ours = slices.Contains(pids, pid); ours {
			resp.Processes = append(resp.Processes, joinLast(fields, len(resp.Titles)))
		}
	}
	return resp, nil
}

// joinLast makes n fields of them.
func joinLast(fields []string, n int) []string {
	if len(fields) <= n {
		return fields
	}
	return append(slices.Clone(fields[:n-1]), strings.Join(fields[n-1:], " "))
}
