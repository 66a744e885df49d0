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
	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/internal/tracing"
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
	cl = ttrpc.NewClient(impatient{uc}, ttrpc.WithUnaryClientInterceptor(traced), ttrpc.WithOnClose(func() {
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

// traced makes a span of a call, where there is one of what the call is for.
func traced(ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, _ *ttrpc.UnaryClientInfo, invoke ttrpc.Invoker) error {
	ctx, end := tracing.Start(ctx, "shim "+req.Method)
	err := invoke(ctx, req, resp)
	end(err)
	return err
}

// api is what a shim serves.
type api = taskapi.TTRPCTaskService

// call asks the shim something. It returns when there is an answer, or when ctx ends, whatever the shim does.
func call[Q, A any](ctx context.Context, c *conn, method func(api, context.Context, *Q) (*A, error), q *Q) (*A, error) {
	type result struct {
		a   *A
		err error
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cl, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	answer := make(chan result, 1)
	// Ends with the answer, with ctx, or after writeTimeout.
	go func() {
		a, err := method(taskapi.NewTTRPCTaskClient(cl), ctx, q)
		answer <- result{a, err}
	}()
	select {
	case r := <-answer:
		if r.err != nil {
			return nil, c.explain(ctx, r.err)
		}
		step.Reached("the shim answered", q)
		return r.a, nil
	case <-ctx.Done():
		return nil, silent(ctx.Err())
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
