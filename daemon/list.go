package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/filters"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// listFilters are the keys that GET /containers/json knows.
var listFilters = []string{
	"ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
	"publish", "since", "status", "volume",
}

// ContainerList lists the containers that match, newest first, as they are at a revision: as JSON, in the shape of
// o.Version. It never waits for what a container is doing; only Size reads the disk.
func (d *Daemon) ContainerList(ctx context.Context, o containertypes.ListOptions) (
	entries []*containertypes.Entry, revision uint64, err error,
) {
	l, err := d.selected(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	entries = make([]*containertypes.Entry, len(l.recs))
	for i, rec := range l.recs {
		if o.Size {
			s := summary(rec, l.of(rec))
			if err = d.addSize(ctx, s); err == nil {
				entries[i], err = encode(s, o.Version)
			}
		} else {
			entries[i], err = l.of(rec).encode(rec)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return entries, l.revision, nil
}

// listing is what a container's JSON in a list is made of, beside its record, and that JSON.
type listing struct {
	version, image, status string
	aliases                []string
	entry                  *containertypes.Entry
}

// encode returns the JSON: what the record's memo has of the same listing, as to send it takes a tenth of the time that it takes
// to make it.
func (l listing) encode(rec *container.Record) (*containertypes.Entry, error) {
	last, kept := rec.Memo.Listed.Load().(listing)
	kept = kept && last.version == l.version && last.image == l.image && last.status == l.status && slices.Equal(last.aliases, l.aliases)
	if kept && !container.Audited {
		return last.entry, nil
	}
	var err error
	if l.entry, err = encode(summary(rec, l), l.version); err == nil {
		if kept {
			last.entry.Audit(l.entry)
		}
		rec.Memo.Listed.Store(l)
	}
	return l.entry, err
}

// encode makes the JSON of a version.
func encode[T any](v *T, version string) (*containertypes.Entry, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(versions.Response(versions.For(version), v))
	return containertypes.NewEntry(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), err
}

func (d *Daemon) addSize(ctx context.Context, s *containertypes.Summary) (err error) {
	if s.SizeRw, s.SizeRootFs, err = d.layers.Size(ctx, s.ID); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// selection is what a list shows.
type selection struct {
	recs     []*container.Record
	revision uint64
	of       func(*container.Record) listing
}

func (d *Daemon) selected(ctx context.Context, o containertypes.ListOptions) (selection, error) {
	match, err := d.listMatcher(ctx, o)
	if err != nil {
		return selection{}, err
	}
	recs, revision := d.containers.List()
	now, image, aliases := time.Now(), d.imageNames(ctx), d.aliases(recs)
	l := selection{recs: recs[:0], revision: revision, of: func(rec *container.Record) listing {
		return listing{version: o.Version, image: image(rec), status: statusText(rec, now), aliases: aliases[rec.ID]}
	}}
	for _, rec := range recs {
		if match(rec) {
			l.recs = append(l.recs, rec)
			if len(l.recs) == o.Limit {
				break
			}
		}
	}
	return l, nil
}

func statusText(rec *container.Record, now time.Time) string {
	text := ""
	if rec.Health != nil {
		text = rec.Health.Status
		if text == "starting" {
			text = "health: starting"
		}
	}
	return rec.State.Text(now, text)
}

// summary is a function of what it takes and of nothing else: listing relies on that.
func summary(rec *container.Record, l listing) *containertypes.Summary {
	health := containertypes.SummaryHealth{Status: "none"}
	if rec.Health != nil {
		health = containertypes.SummaryHealth{Status: rec.Health.Status, FailingStreak: rec.Health.FailingStreak}
	}
	shown := shownNetwork(rec)
	networks := wireEndpoints(shown)
	for _, ep := range networks {
		ep.Links, ep.Aliases, ep.DriverOpts, ep.DNSNames = nil, nil, nil, new([]string)
		if ep.IPAMConfig != nil {
			ep.IPAMConfig.LinkLocalIPs = nil
		}
	}
	return &containertypes.Summary{
		ID: rec.ID, Names: append([]string{rec.Name}, l.aliases...), Image: l.image, ImageID: rec.ImageID,
		ImageManifestDescriptor: containertypes.CloneDescriptor(rec.ImageManifest),
		Command:                 command(rec), Created: rec.Created.Unix(), Ports: containertypes.PortSummaries(shown.Ports),
		Labels: mergeMaps(map[string]string{}, rec.Config.Labels), State: rec.State.Word(), Status: l.status,
		HostConfig: containertypes.SummaryHostConfig{
			NetworkMode: string(rec.HostConfig.NetworkMode), Annotations: mergeMaps(nil, rec.HostConfig.Annotations),
		},
		Defaulted: rec.Defaulted, Health: &health, NetworkSettings: &containertypes.SummaryNetworks{Networks: networks}, Mounts: summaryMounts(rec),
	}
}

// aliases are the names that containers have by the links of others, by id.
func (d *Daemon) aliases(recs []*container.Record) map[string][]string {
	all := map[string][]string{}
	for _, rec := range recs {
		for _, l := range d.links(rec.HostConfig) {
			all[l.target.ID] = append(all[l.target.ID], l.path(rec))
		}
	}
	return all
}

// summaryMounts are the mounts in a list: it does not say where volumes are that only Config.Volumes asked for.
func summaryMounts(rec *container.Record) []containertypes.MountPoint {
	mps := mountPoints(rec)
	for i := range mps {
		if rec.MountPoints[mps[i].Destination].Declared {
			mps[i].Source = ""
		}
	}
	return mps
}

// command joins path and arguments as people read them.
func command(rec *container.Record) string {
	var b strings.Builder
	b.WriteString(rec.Path)
	for _, a := range rec.Args {
		b.WriteByte(' ')
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		b.WriteString(a)
	}
	return b.String()
}

// imageNames returns how a container's image is called: as at create, or by its id when that name means another image
// by now. What one asks for is often what the one before it asked for.
func (d *Daemon) imageNames(ctx context.Context) func(*container.Record) string {
	known := map[string]string{}
	var ref, id string
	return func(rec *container.Record) string {
		if rec.Config.Image != ref {
			ref = rec.Config.Image
			var found bool
			if id, found = known[ref]; !found {
				id, _ = d.images.ID(ctx, ref) // empty: it means none
				known[ref] = id
			}
		}
		if id == rec.ImageID {
			return ref
		}
		return rec.ImageID
	}
}

// listMatcher checks the filters and returns what they let through.
func (d *Daemon) listMatcher(ctx context.Context, o containertypes.ListOptions) (func(*container.Record) bool, error) {
	f := o.Filters
	if err := f.Validate(listFilters...); err != nil {
		return nil, err
	}
	if err := container.CheckFilters(f); err != nil {
		return nil, err
	}
	if tasks, err := f.Bool("is-task", false); err != nil {
		return nil, err
	} else if tasks { // those of a swarm: there are none
		return func(*container.Record) bool { return false }, nil
	}
	exited, err := exitCodes(f)
	if err != nil {
		return nil, err
	}
	before, since, err := d.listBounds(f)
	if err != nil {
		return nil, err
	}
	ancestors, err := d.ancestors(ctx, f)
	if err != nil {
		return nil, err
	}
	all := o.All || o.Limit > 0 || f.Has("status")
	return func(rec *container.Record) bool {
		switch {
		case !all && !rec.State.Running:
			return false
		case before != nil && !older(rec, before), since != nil && !older(since, rec):
			return false
		case f.Has("status") && !slices.Contains(f["status"], rec.State.Word()):
			return false
		case exited != nil && (rec.State.Running || rec.State.StartedAt.IsZero() || !slices.Contains(exited, rec.State.ExitCode)):
			return false
		case ancestors != nil && !slices.Contains(ancestors, rec.ImageID):
			return false
		}
		return rec.Matches(f)
	}, nil
}

// older reports whether a was created before b.
func older(a, b *container.Record) bool {
	return a.Created.Before(b.Created) || a.Created.Equal(b.Created) && a.ID < b.ID
}

func exitCodes(f filters.Args) (codes []int, _ error) {
	for _, s := range f["exited"] {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, errdefs.InvalidParameterf("invalid filter 'exited=%s': %w", s, err)
		}
		codes = append(codes, n)
	}
	return codes, nil
}

func (d *Daemon) listBounds(f filters.Args) (before, since *container.Record, _ error) {
	for key, bound := range map[string]**container.Record{"before": &before, "since": &since} {
		for _, ref := range f[key] {
			c, err := d.containers.Get(ref)
			if err != nil {
				return nil, nil, err
			}
			*bound = c.Snapshot()
		}
	}
	return before, since, nil
}

// ancestors returns the ids of the images that the filter names; an unknown image matches nothing.
func (d *Daemon) ancestors(ctx context.Context, f filters.Args) ([]string, error) {
	if !f.Has("ancestor") {
		return nil, nil
	}
	ids := []string{}
	for _, ref := range f["ancestor"] {
		id, err := d.images.ID(ctx, ref)
		switch {
		case errdefs.IsNotFound(err):
		case err != nil:
			return nil, err
		default:
			ids = append(ids, id)
		}
	}
	return ids, nil
}
