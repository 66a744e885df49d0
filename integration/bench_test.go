package integration

import (
	"fmt"
	"testing"

	"github.com/berthd/berth/integration/harness"
)

// BenchmarkRun is a whole life: create, start, wait for the end of `true`, remove.
func BenchmarkRun(b *testing.B) {
	d := harness.Start(b)
	for b.Loop() {
		id := d.Run("", "true")
		d.Wait(id)
		d.Remove(id)
	}
}

func BenchmarkExec(b *testing.B) {
	d := harness.Start(b)
	id := d.Run("", "sleep", "100000")
	for b.Loop() {
		d.Exec(id, "true")
	}
}

func BenchmarkInspect(b *testing.B) {
	d := harness.Start(b)
	id := d.Run("", "sleep", "100000")
	for b.Loop() {
		d.OK("GET", "/containers/"+id+"/json", nil, nil)
	}
}

// BenchmarkList lists a hundred containers.
func BenchmarkList(b *testing.B) {
	d := harness.Start(b)
	for i := range 100 {
		d.Create(fmt.Sprintf("c%d", i), harness.Spec("true"))
	}
	for b.Loop() {
		d.OK("GET", "/containers/json?all=1", nil, nil)
	}
}
