// Package errdefs gives errors a class. A class is set once, where an error arises; whoever passes the error on wraps
// it with %w. The API server turns classes into HTTP statuses, and nobody else does.
package errdefs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	cerrdefs "github.com/containerd/errdefs"
)

// Class says what kind of fault an error is.
type Class int

// The classes. Unknown is what an error has that nobody classified.
const (
	Unknown Class = iota
	classNotFound
	classInvalidParameter
	classConflict
	classUnauthorized
	classForbidden
	classUnavailable
	classNotModified
	classNotImplemented
	classSystem
	classCancelled
	classDeadline
)

type classified struct {
	error
	class Class
}

func (e *classified) Unwrap() error { return e.error }

func with(c Class, err error) error {
	if err == nil {
		return nil
	}
	return &classified{err, c}
}

// NotFound marks err as about something that does not exist (404).
func NotFound(err error) error { return with(classNotFound, err) }

// InvalidParameter marks err as caused by bad input (400).
func InvalidParameter(err error) error { return with(classInvalidParameter, err) }

// Conflict marks err as caused by the state that something is in (409).
func Conflict(err error) error { return with(classConflict, err) }

// Unauthorized marks err as caused by missing or wrong credentials (401).
func Unauthorized(err error) error { return with(classUnauthorized, err) }

// Forbidden marks err as something that may never be done (403).
func Forbidden(err error) error { return with(classForbidden, err) }

// Unavailable marks err as something that may work later (503).
func Unavailable(err error) error { return with(classUnavailable, err) }

// NotModified marks err as "it is so already" (304).
func NotModified(err error) error { return with(classNotModified, err) }

// NotImplemented marks err as something that this engine does not do (501).
func NotImplemented(err error) error { return with(classNotImplemented, err) }

// System marks err as a fault of the engine or the machine (500).
func System(err error) error { return with(classSystem, err) }

// NotFoundf is NotFound of a formatted error.
func NotFoundf(format string, a ...any) error { return NotFound(fmt.Errorf(format, a...)) }

// InvalidParameterf is InvalidParameter of a formatted error.
func InvalidParameterf(format string, a ...any) error {
	return InvalidParameter(fmt.Errorf(format, a...))
}

// Conflictf is Conflict of a formatted error.
func Conflictf(format string, a ...any) error { return Conflict(fmt.Errorf(format, a...)) }

// Forbiddenf is Forbidden of a formatted error.
func Forbiddenf(format string, a ...any) error { return Forbidden(fmt.Errorf(format, a...)) }

// NotImplementedf is NotImplemented of a formatted error.
func NotImplementedf(format string, a ...any) error { return NotImplemented(fmt.Errorf(format, a...)) }

// Systemf is System of a formatted error.
func Systemf(format string, a ...any) error { return System(fmt.Errorf(format, a...)) }

// ClassOf returns the outermost class in err's chain. An error that carries none but comes from containerd or a context
// gets the class that it has there.
func ClassOf(err error) Class {
	var c *classified
	if errors.As(err, &c) {
		return c.class
	}
	switch {
	case err == nil:
		return Unknown
	case errors.Is(err, context.Canceled):
		return classCancelled
	case errors.Is(err, context.DeadlineExceeded):
		return classDeadline
	}
	return fromContainerd(err)
}

func fromContainerd(err error) Class {
	switch {
	case cerrdefs.IsNotFound(err):
		return classNotFound
	case cerrdefs.IsInvalidArgument(err), cerrdefs.IsFailedPrecondition(err), cerrdefs.IsOutOfRange(err):
		return classInvalidParameter
	case cerrdefs.IsConflict(err), cerrdefs.IsAlreadyExists(err), cerrdefs.IsAborted(err):
		return classConflict
	case cerrdefs.IsUnauthorized(err):
		return classUnauthorized
	case cerrdefs.IsPermissionDenied(err):
		return classForbidden
	case cerrdefs.IsUnavailable(err):
		return classUnavailable
	case cerrdefs.IsNotImplemented(err):
		return classNotImplemented
	}
	return Unknown
}

// IsNotFound reports whether err is about something that does not exist.
func IsNotFound(err error) bool { return ClassOf(err) == classNotFound }

// IsInvalidParameter reports whether err is caused by bad input.
func IsInvalidParameter(err error) bool { return ClassOf(err) == classInvalidParameter }

// IsConflict reports whether err is caused by the state that something is in.
func IsConflict(err error) bool { return ClassOf(err) == classConflict }

// IsUnauthorized reports whether err is caused by missing or wrong credentials.
func IsUnauthorized(err error) bool { return ClassOf(err) == classUnauthorized }

// IsForbidden reports whether err is about something that may never be done.
func IsForbidden(err error) bool { return ClassOf(err) == classForbidden }

// IsUnavailable reports whether err may go away later.
func IsUnavailable(err error) bool { return ClassOf(err) == classUnavailable }

// IsNotModified reports whether err says "it is so already".
func IsNotModified(err error) bool { return ClassOf(err) == classNotModified }

// IsNotImplemented reports whether err is about something that this engine does not do.
func IsNotImplemented(err error) bool { return ClassOf(err) == classNotImplemented }

// IsCancelled reports whether err says that the one who asked has gone.
func IsCancelled(err error) bool { return ClassOf(err) == classCancelled }

// Join is errors.Join that keeps a single error as it is, with its class.
func Join(errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
