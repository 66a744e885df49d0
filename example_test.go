package berth_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/berthd/berth"
	"github.com/berthd/berth/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// What a program needs that serves an engine of its own. docs/embedding.md shows it.
func ExampleNew() {
	serve := func(ctx context.Context, listener net.Listener) error {
		engine, err := berth.New(ctx, berth.Options{DataRoot: "/var/lib/mine", ExecRoot: "/run/mine"})
		if err != nil {
			return err
		}
		defer engine.Close(context.Background())
		return http.Serve(listener, engine.Handler())
	}
	_ = serve
}

// Two engines in one program, each on directories of its own, behind whatever listener the program likes.
func Example() {
	ctx := context.Background()
	for _, name := range []string{"one", "two"} {
		dir, err := os.MkdirTemp("", "berth-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		engine, err := berth.New(ctx, berth.Options{
			DataRoot: filepath.Join(dir, "data"), ExecRoot: filepath.Join(dir, "exec"), ShimPath: harness.ShimPath(),
		})
		if err != nil {
			panic(err)
		}
		defer engine.Close(ctx)
		server := httptest.NewServer(engine.Handler())
		defer server.Close()
		resp, err := http.Get(server.URL + "/v1.55/containers/json")
		if err != nil {
			panic(err)
		}
		fmt.Println(name, resp.Status)
		resp.Body.Close()
	}
	// Output:
	// one 200 OK
	// two 200 OK
}
