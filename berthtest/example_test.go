package berthtest_test

import (
	"testing"

	"github.com/moby/moby/client"

	"github.com/berthd/berth/berthtest"
)

func ExampleStart() {
	TestMine := func(t *testing.T) {
		engine := berthtest.Start(t)
		c, err := client.New(client.WithHost(engine.Host))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		list, err := c.ContainerList(t.Context(), client.ContainerListOptions{All: true})
		if err != nil || len(list.Items) > 0 {
			t.Fatalf("a new engine has containers: %v, %v", list.Items, err)
		}
	}
	_ = TestMine
}
