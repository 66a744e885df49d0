// ryuk stands in for testcontainers/ryuk, which no registry is here to get from: it speaks the same protocol. Who connects
// sends a line of filters ("label=a=b&label=c=d") and gets ACK. When the last connection has ended, and no other came for
// RYUK_RECONNECTION_TIMEOUT, it removes all that matches one of the lines through the engine's socket, and ends.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/moby/moby/client"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "ryuk:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	patience, err := time.ParseDuration(os.Getenv("RYUK_RECONNECTION_TIMEOUT"))
	if err != nil {
		return err
	}
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	fmt.Println("Started")
	conns, said, ended := make(chan net.Conn), make(chan string), make(chan struct{})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns <- conn
		}
	}()
	lines, open := map[string]bool{}, 0
	over := time.NewTimer(time.Minute) // for the first to come
	for {
		select {
		case conn := <-conns:
			open++
			over.Stop()
			go serve(conn, said, ended)
		case line := <-said:
			lines[line] = true
		case <-ended:
			if open--; open == 0 {
				over.Reset(patience)
			}
		case <-over.C:
			var errs []error
			for line := range lines {
				errs = append(errs, remove(ctx, engine, line))
			}
			return errors.Join(errs...)
		}
	}
}

func serve(conn net.Conn, said chan<- string, ended chan<- struct{}) {
	defer func() { conn.Close(); ended <- struct{}{} }()
	for in := bufio.NewScanner(conn); in.Scan(); {
		said <- in.Text()
		fmt.Fprintln(conn, "ACK")
	}
}

// remove removes containers, networks and volumes that match a line of filters.
func remove(ctx context.Context, engine *client.Client, line string) error {
	query, err := url.ParseQuery(line)
	if err != nil {
		return err
	}
	filters := client.Filters{}
	for key, values := range query {
		filters.Add(key, values...)
	}
	containers, err := engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		return err
	}
	for _, c := range containers.Items {
		if _, err := engine.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			return err
		}
	}
	networks, err := engine.NetworkList(ctx, client.NetworkListOptions{Filters: filters})
	if err != nil {
		return err
	}
	for _, n := range networks.Items {
		if _, err := engine.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); err != nil {
			return err
		}
	}
	volumes, err := engine.VolumeList(ctx, client.VolumeListOptions{Filters: filters})
	if err != nil {
		return err
	}
	for _, v := range volumes.Items {
		if _, err := engine.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{}); err != nil {
			return err
		}
	}
	fmt.Printf("Removed %d containers, %d networks, %d volumes\n", len(containers.Items), len(networks.Items), len(volumes.Items))
	return nil
}
