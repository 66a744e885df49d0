package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

const (
	bigImage = "127.0.0.1:5000/big:1"
	// bigLayers times bigFiles times bigFile are the 300 MB of bigImage.
	bigLayers, bigFiles, bigFile = 10, 1500, 20_000
)

// transferring are the engines that transfers compares: dockerd makes what is pulled.
var transferring = []string{"berth", "dockerd"}

// transfers measures how fast an image of 300 MB is loaded from an archive, and pulled from a registry on the same machine,
// and what memory the daemon needs for it at most. The engines are new ones, each with a disk of its own: how long it takes
// to make files on one depends on what others have just deleted there.
func (b *bench) transfers(ctx context.Context) error {
	engines := map[string]*engine{}
	for _, name := range transferring {
		e, err := startEngine(ctx, name, b.image, true)
		if err != nil {
			return err
		}
		defer e.box.close()
		engines[name] = e
	}
	archive := engines["dockerd"].box.path("big.tar")
	if err := writeBigImage(archive); err != nil {
		return err
	}
	if err := publish(ctx, engines, archive); err != nil {
		return err
	}
	for _, m := range []struct {
		name string
		get  func(e *engine) error
	}{
		{"load of 300 MB in 10 layers", func(e *engine) error { return e.load(ctx, archive) }},
		{"pull of 300 MB in 10 layers, gzip", func(e *engine) error {
			return e.stream(ctx, "/v1.41/images/create?fromImage="+bigImage, nil)
		}},
	} {
		peaks := figures{}
		sides := map[string]func() (float64, error){}
		for name, e := range engines {
			sides[name] = func() (float64, error) {
				if _, err := e.box.peak(ctx, e.pid); err != nil { // begins anew
					return 0, err
				}
				ms, err := milliseconds(func() error { return m.get(e) })
				if err != nil {
					return 0, err
				}
				peak, err := e.box.peak(ctx, e.pid)
				if err != nil {
					return 0, err
				}
				peaks[name] = append(peaks[name], peak)
				return ms, e.drop(ctx)
			}
		}
		f, err := rounds(ctx, b.rounds, sides)
		if err != nil {
			return err
		}
		row(b.out, m.name+" (ms)", f, atLeast("dockerd", "berth", 1.5))
		row(b.out, "  daemon's memory at most (MiB)", peaks, atMost("berth", "dockerd", 1))
	}
	return nil
}

// publish puts the image into a registry that the sandboxes of all engines have.
func publish(ctx context.Context, engines map[string]*engine, archive string) error {
	docker := engines["dockerd"]
	config, err := json.Marshal(map[string]any{ // which is YAML too
		"version": "0.1", "log": map[string]string{"level": "error"}, "http": map[string]string{"addr": "127.0.0.1:5000"},
		"storage": map[string]any{"filesystem": map[string]string{"rootdirectory": docker.box.path("registry")}},
	})
	if err != nil {
		return err
	}
	file := docker.box.path("registry.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	for _, e := range engines {
		if _, err := e.box.spawn(ctx, "bin/tools/docker-registry", "serve", file); err != nil {
			return err
		}
	}
	if err := docker.load(ctx, archive); err != nil {
		return err
	}
	if err := docker.stream(ctx, "/v1.41/images/"+strings.Replace(bigImage, ":1", "/push?tag=1", 1), nil); err != nil {
		return err
	}
	return docker.drop(ctx)
}

func (e *engine) load(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	return e.stream(ctx, "/v1.41/images/load?quiet=1", f)
}

// stream sends a request that is answered by messages, and returns the error among them.
func (e *engine) stream(ctx context.Context, path string, body any) error {
	resp, err := e.open(ctx, "POST", path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for dec := json.NewDecoder(resp.Body); ; {
		var m struct{ Error string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if m.Error != "" {
			return errors.New(m.Error)
		}
	}
}

// drop removes the image and gives the engine time to free what it took.
func (e *engine) drop(ctx context.Context) error {
	err := e.call(ctx, "DELETE", "/v1.41/images/"+bigImage, nil, nil)
	time.Sleep(settle)
	return err
}

// writeBigImage writes what docker save would write of an image whose files are half text and half noise.
func writeBigImage(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	put := func(name string, body []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}); err != nil {
			return err
		}
		_, err := w.Write(body)
		return err
	}
	var diffIDs, names []string
	for i := range bigLayers {
		layer, err := bigLayer(byte(i))
		if err != nil {
			return err
		}
		diffIDs = append(diffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(layer)))
		names = append(names, fmt.Sprintf("%d/layer.tar", i))
		if err := put(names[i], layer); err != nil {
			return err
		}
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{bigImage}, "Layers": names}})
	if err != nil {
		return err
	}
	return errors.Join(put(name, config), put("manifest.json", manifest), w.Close())
}

func bigLayer(seed byte) ([]byte, error) {
	random := rand.New(rand.NewChaCha8([32]byte{seed}))
	var words []string
	for range 1000 {
		words = append(words, fmt.Sprintf("%x ", random.Uint64()>>(8*random.UintN(8))))
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n := range bigFiles {
		body := make([]byte, 0, bigFile)
		for len(body) < bigFile/2 {
			body = append(body, words[random.IntN(len(words))]...)
		}
		for len(body) < bigFile {
			body = append(body, byte(random.Uint32()))
		}
		name := fmt.Sprintf("layer-%d/%d/%d", seed, n%50, n)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(body); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}
