package logger

import "io"

// Copy reads src to its end, cuts what it reads into messages of the given source and hands them to w.
func Copy(w Writer, src io.Reader, source string, tee func([]byte)) error {
	return nil
}
