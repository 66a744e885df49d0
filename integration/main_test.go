package integration

import (
	"testing"

	"github.com/berthd/berth/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
