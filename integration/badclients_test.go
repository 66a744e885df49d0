package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// badClient does what no client should, over connections that stay open until the test lets go of them.
type badClient struct {
	t    *testing.T
	d    *harness.Daemon
	mu   sync.Mutex
	open []net.Conn
}

// send opens a connection and sends a text, as far as it is taken.
func (b *badClient) send(format string, args ...any) net.Conn {
	conn, err := net.Dial("unix", b.d.File("s"))
	assert.NilError(b.t, err)
	b.mu.Lock()
	b.open = append(b.open, conn)
	b.mu.Unlock()
	assert.NilError(b.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = fmt.Fprintf(conn, format, args...)
	assert.NilError(b.t, err)
	return conn
}

func (b *badClient) close() {
	for _, c := range b.open {
		c.Close()
	}
}

// Whatever clients do to their connections, others are served meanwhile, and nothing is left when they have gone.
func TestBadClients(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	cat := harness.Spec("cat")
	cat["OpenStdin"], cat["Tty"] = true, true
	terminal := d.Create("terminal", cat)
	d.API.Start(terminal)
	plain := harness.Spec("cat")
	plain["OpenStdin"] = true
	pipe := d.Create("pipe", plain)
	d.API.Start(pipe)
	d.Exec(pipe, "true") // what is made once is there
	before := used(t, d)

	for name, misbehave := range map[string]func(b *badClient){
		"headers that do not end": func(b *badClient) {
			for range 300 {
				b.send("GET /containers/json HTTP/1.1\r\nHost: x\r\nX-")
			}
		},
		"connections that say nothing": func(b *badClient) {
			for range 1000 {
				b.send("")
			}
		},
		"bodies that do not come": func(b *badClient) {
			for _, request := range []string{
				"POST /containers/create", "PUT /containers/pipe/archive?path=/", "POST /images/load", "POST /containers/pipe/exec",
				"POST /containers/pipe/start", "POST /build", "POST /nothing",
			} {
				for range 10 {
					b.send("%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", request)
				}
			}
		},
		"bodies that do not end": func(b *badClient) {
			for range 4 {
				conn := b.send("POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
					"Transfer-Encoding: chunked\r\n\r\n4\r\n{\"x\r\n")
				go func() {
					chunk := fmt.Sprintf("100000\r\n%s\r\n", strings.Repeat("x", 1<<20))
					for {
						if _, err := io.WriteString(conn, chunk); err != nil {
							return // the server has had enough
						}
					}
				}()
				answer := make([]byte, 12)
				_, err := io.ReadFull(conn, answer)
				assert.NilError(b.t, err)
				assert.Equal(b.t, string(answer), "HTTP/1.1 400")
			}
		},
		"streams that are closed by half, or not read": func(b *badClient) {
			for i := range 40 {
				conn := b.send("POST /containers/pipe/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n" +
					"Connection: Upgrade\r\nContent-Length: 0\r\n\r\nto nobody\n")
				if i%2 == 0 {
					assert.NilError(b.t, conn.(*net.UnixConn).CloseWrite())
				}
			}
		},
		"frames that are none": func(b *badClient) {
			for _, frames := range []string{
				"\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x81\x05hello", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff....x",
				"\x83\x80....", "\x89\xfe\xff\xff....", "\x80\x80....", "\xf1\x80....",
			} {
				b.send("GET /containers/pipe/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"+
					"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n%s", frames)
			}
		},
		"sizes upon sizes": func(b *badClient) {
			sizes := []string{"0", "1", "24", "65535"}
			var storm sync.WaitGroup
			for range 8 {
				storm.Go(func() {
					for range 25 {
						path := fmt.Sprintf("/containers/terminal/resize?h=%s&w=%s", sizes[rand.IntN(4)], sizes[rand.IntN(4)])
						resp, err := b.d.Try("POST", path, nil)
						assert.Check(b.t, err)
						assert.Check(b.t, cmp.Equal(resp.Status, 200), resp.Body)
					}
				})
			}
			storm.Wait()
			for _, bad := range []string{"h=4294967296&w=1", "h=-1&w=1", "h=1", "h=1&w=1e3"} {
				assert.Check(b.t, cmp.Equal(b.d.HTTP("POST", "/containers/terminal/resize?"+bad, nil).Status, 400), bad)
			}
			b.d.OK("POST", "/containers/terminal/resize?h=33&w=99", nil, nil)
			out, _ := b.d.Exec(terminal, "sh", "-c", "stty size </proc/1/fd/0")
			assert.Equal(b.t, strings.TrimSpace(out), "33 99")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := &badClient{t: t, d: d.For(t)}
			defer b.close()
			misbehave(b)
			rss := residentBytes(t, d)
			assert.Check(t, rss < before.bytes+300<<20, "%d MiB, %d before", rss>>20, before.bytes>>20)
			id := b.d.Run("", "echo", "served")
			assert.Equal(t, b.d.Wait(id), 0)
			assert.Equal(t, b.d.Log(id), "served\n")
			b.d.Remove(id)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			resp, err := b.d.Open(ctx, "GET", "/containers/pipe/logs?stdout=1", nil)
			assert.NilError(t, err)
			resp.Body.Close()
		})
	}
	d.Eventually("nothing is left of them", func() bool {
		now := used(t, d)
		return now.goroutines <= before.goroutines+5 && now.files <= before.files+5 && now.shimFiles <= before.shimFiles
	})
	assert.Assert(t, d.Inspect(pipe).State.Running && d.Inspect(terminal).State.Running)
}
