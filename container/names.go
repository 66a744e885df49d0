package container

import (
	"math/rand/v2"
	"regexp"

	"github.com/berthd/berth/errdefs"
)

var nameSyntax = regexp.MustCompile(`^/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// CheckName tells what is wrong with the name of a container, which may have its slash.
func CheckName(name string) error {
	if !nameSyntax.MatchString(name) {
		return errdefs.InvalidParameterf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

var (
	weathers = [...]string{
		"balmy", "becalmed", "blustery", "breezy", "bright", "brisk", "calm", "choppy", "clear", "cloudy", "cool", "crisp",
		"drifting", "dusky", "fair", "fogbound", "foggy", "fresh", "frosty", "gentle", "glassy", "golden", "grey", "gusty",
		"hazy", "icy", "lively", "mild", "misty", "moonlit", "overcast", "pale", "patient", "placid", "quiet", "rainy",
		"rolling", "rough", "salty", "serene", "silver", "sleepy", "squally", "starlit", "steady", "still", "stormy",
		"sunny", "swift", "tidal", "tranquil", "warm", "wavy", "weathered", "windward", "windy", "wintry",
	}
	vessels = [...]string{
		"anchor", "barge", "beacon", "bollard", "bosun", "bowsprit", "brig", "buoy", "capstan", "clipper", "compass",
		"corvette", "cutter", "derrick", "dinghy", "dock", "dory", "ferry", "frigate", "galley", "gangway", "halyard",
		"harbour", "hawser", "helm", "hull", "jetty", "jib", "kayak", "keel", "ketch", "launch", "lighter", "lugger",
		"mainsail", "mast", "mooring", "packet", "pier", "pilot", "pinnace", "punt", "quay", "rudder", "schooner",
		"sextant", "skiff", "slip", "sloop", "spar", "spinnaker", "tender", "tiller", "trawler", "tug", "wharf", "yawl",
	}
)

// RandomName is a name for a container that was given none.
func RandomName() string {
	return weathers[rand.IntN(len(weathers))] + "_" + vessels[rand.IntN(len(vessels))]
}
