package versions

import "slices"

// changes is the table of all differences between versions. Those of one type apply in the order they stand in.
func changes() []Change {
	return slices.Concat(
		behaviours(), messageChanges(),
		containerChanges(), createChanges(), updateChanges(), statsChanges(), waitChanges(), execChanges(),
		imageChanges(), networkChanges(), volumeChanges(), systemChanges(), usageChanges(),
	)
}
