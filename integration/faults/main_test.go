// Package faults injects faults into real daemons, and holds them to what docs/guarantees.md promises.
package faults

import (
	"testing"

	"github.com/berthd/berth/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
