// Package vary makes variants of what parsers read, for tests that want bad input in bounded time. `make fuzz` looks for
// more, guided by what code each input reaches.
package vary

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// Bytes returns the seeds and n variants of them, always the same.
func Bytes(n int, seeds ...[]byte) [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	all := slices.Clone(seeds)
	for range n {
		b := bytes.Clone(seeds[rng.IntN(len(seeds))])
		for range 1 + rng.IntN(4) {
			b = change(rng, b, seeds[rng.IntN(len(seeds))])
		}
		all = append(all, b)
	}
	return all
}

// Strings is Bytes for texts.
func Strings(n int, seeds ...string) []string {
	var in [][]byte
	for _, s := range seeds {
		in = append(in, []byte(s))
	}
	var out []string
	for _, b := range Bytes(n, in...) {
		out = append(out, string(b))
	}
	return out
}

// change does one thing to b.
func change(rng *rand.Rand, b, other []byte) []byte {
	if len(b) == 0 {
		return bytes.Clone(other)
	}
	at := rng.IntN(len(b))
	end := at + rng.IntN(min(len(b)-at, 64)+1)
	switch rng.IntN(8) {
	case 0:
		b[at] ^= 1 << rng.IntN(8)
	case 1:
		b[at] = byte(rng.Uint32())
	case 2:
		return b[:at]
	case 3:
		return slices.Delete(b, at, end)
	case 4:
		return slices.Insert(b, at, bytes.Clone(b[at:end])...)
	case 5:
		return append(b[:at], other[rng.IntN(len(other)+1):]...)
	case 6: // a number that matters
		numbers := []string{"0", "-1", "18446744073709551616", "1e999", "null", "[]", "{}", `""`, "\x00", "\xff", `"`, ",", ":"}
		return slices.Insert(b, at, []byte(numbers[rng.IntN(len(numbers))])...)
	case 7: // a length that matters
		if len(b) >= at+4 {
			binary.BigEndian.PutUint32(b[at:], []uint32{0, 1, 1 << 20, 1<<31 - 1, 1<<32 - 1}[rng.IntN(5)])
		}
	}
	return b
}
