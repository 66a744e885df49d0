package task

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libcontainerd/shim"
)

// writeTimeout is how long a request may wait for a stopped shim to take its bytes before the connection is given up.
const writeTimeout = 10 * time.Second

var (
	errClosed = errdefs.Unavailable(errors.New("the engine is shutting down"))
	errLost   = errdefs.Unavailable(errors.New("the connection to the container's shim was lost"))
)

// RuntimeError is what the OCI runtime said when it refused to do something, in its words.
type RuntimeError struct{ Text string }

func (e *RuntimeError) Error() string { return e.Text }

// conn is the connection to one shim. When it breaks, the next call makes it anew.
type conn struct {
	dir string

	mu     sync.Mutex
	client *ttrpc.Client
	closed error // why no more calls are made; nil while they are
}

func (c *conn) current() (*ttrpc.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, c.closed
}

// connect returns the client that there is, or a new one.
func (c *conn) connect(ctx context.Context) (*ttrpc.Client, error) {
	cl, err := c.current()
	if cl != nil || err != nil {
		return cl, err
	}
	uc, err := dial(ctx, c.dir, shim.TaskSocket)
	if err != nil {
		return nil, err
	}
	set := make(chan struct{})
	cl = ttrpc.NewClient(impatient{uc}, ttrpc.WithOnClose(func() {
		<-set
		c.forget(cl)
	}))
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(set)
	switch {
	case c.closed != nil:
		cl.Close()
		return nil, c.closed
	case c.client != nil: // somebody else was faster
		cl.Close()
	default:
		c.client = cl
	}
	return c.client, nil
}

func (c *conn) forget(cl *ttrpc.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == cl {
		c.client = nil
	}
}

// close ends the connection and keeps it from being made anew. Calls that wait return with why, later ones too.
func (c *conn) close(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = why
	if c.client != nil {
		c.client.Close()
	}
}

// impatient bounds how long a write may take. Half a request makes a connection useless, so it ends then.
type impatient struct{ net.Conn }

func (i impatient) Write(b []byte) (int, error) {
	_ = i.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := i.Conn.Write(b)
	if err != nil {
		i.Conn.Close()
	}
	return n, err
}

// call asks the shim something. It returns when there is an answer, or when ctx ends, whatever the shim does.
func call[T any](ctx context.Context, c *conn, fn func(context.Context, taskapi.TTRPCTaskService) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return none, err
	}
	answer := make(chan result, 1)
	// Ends with the answer, with ctx, or after writeTimeout.
	go func() {
		v, err := fn(ctx, taskapi.NewTTRPCTaskClient(cl))
		answer <- result{v, err}
	}()
	select {
	case r := <-answer:
		if r.err != nil {
			return none, c.explain(ctx, r.err)
		}
		return r.v, nil
	case <-ctx.Done():
		return none, silent(ctx.Err())
	}
}

func silent(err error) error {
	return fmt.Errorf("the container's shim has not answered yet: %w", err)
}

// explain gives the error of a call its class.
func (c *conn) explain(ctx context.Context, err error) error {
	if cerr := ctx.Err(); cerr != nil {
		return silent(cerr)
	}
	var nerr net.Error
	if errors.Is(err, ttrpc.ErrClosed) || errors.As(err, &nerr) {
		if _, cerr := c.current(); cerr != nil {
			return cerr
		}
		return errLost
	}
	err = errgrpc.ToNative(err)
	if text, ok := runtimeText(err); ok {
		return &RuntimeError{text}
	}
	if cerrdefs.IsFailedPrecondition(err) {
		return errdefs.Conflict(err)
	}
	return err
}

// runtimeText returns what the runtime said, without the class that containerd appends.
func runtimeText(err error) (string, bool) {
	text := strings.TrimSuffix(err.Error(), ": "+cerrdefs.ErrUnknown.Error())
	return text, strings.HasPrefix(text, "OCI runtime ")
}
