package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// columns are who is measured, in the order of the table.
var columns = []string{"floor", "berth", "dockerd", "podman"}

// figures are what the rounds of one measure gave, by column. All columns of one measure have as many.
type figures map[string][]float64

// goal is a bound of a ratio: what / of.
type goal struct {
	what, of string
	atLeast  bool
	bound    float64
}

func atMost(what, of string, bound float64) goal  { return goal{what, of, false, bound} }
func atLeast(what, of string, bound float64) goal { return goal{what, of, true, bound} }

// ratio is the median of the ratios of rounds: what disturbs a round disturbs both sides of it.
func (f figures) ratio(what, of string) float64 {
	n := min(len(f[what]), len(f[of]))
	ratios := make([]float64, n)
	for i := range n {
		ratios[i] = f[what][i] / f[of][i]
	}
	return median(ratios)
}

func median(v []float64) float64 { return quantile(v, 0.5) }

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[int(q*float64(len(s)-1)+0.5)]
}

// rounds measures each side once in each round, in turn. Another engine that fails has no column in this measure.
func rounds(ctx context.Context, n int, sides map[string]func() (float64, error)) (figures, error) {
	f := figures{}
	order := slices.Sorted(maps.Keys(sides))
	for round := range n {
		for i := range order {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			name := order[(round+i)%len(order)]
			if sides[name] == nil {
				continue
			}
			v, err := sides[name]()
			switch {
			case err != nil && (name == "berth" || name == "floor" || ctx.Err() != nil):
				return nil, fmt.Errorf("%s: %w", name, err)
			case err != nil:
				fmt.Fprintf(os.Stderr, "bench: %s is left out of the next line: %v\n", name, err)
				delete(sides, name)
				delete(f, name)
				continue
			}
			f[name] = append(f[name], v)
		}
	}
	return f, nil
}

// milliseconds times fn.
func milliseconds(fn func() error) (float64, error) {
	begin := time.Now()
	err := fn()
	return float64(time.Since(begin).Microseconds()) / 1000, err
}

// typical is the median of n times.
func typical(n int, fn func() error) (float64, error) {
	times := make([]float64, n)
	for i := range times {
		var err error
		if times[i], err = milliseconds(fn); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

// head prints what the columns are.
func head(w io.Writer) {
	fmt.Fprintf(w, "%-46s", "")
	for _, c := range columns {
		fmt.Fprintf(w, " %10s", c)
	}
	fmt.Fprintln(w, "   ratios")
}

// row prints one line of the table.
func row(w io.Writer, name string, f figures, goals ...goal) {
	fmt.Fprintf(w, "%-46s", name)
	for _, c := range columns {
		cell := "–"
		if len(f[c]) > 0 {
			cell = number(median(f[c]))
		}
		fmt.Fprintf(w, " %10s", cell)
	}
	var texts []string
	for _, g := range goals {
		if len(f[g.what]) == 0 || len(f[g.of]) == 0 {
			continue
		}
		r, sign := f.ratio(g.what, g.of), "≤"
		met := r <= g.bound
		if g.atLeast {
			sign, met = "≥", r >= g.bound
		}
		verdict := "met"
		if !met {
			verdict = "MISSED"
		}
		texts = append(texts, fmt.Sprintf("%s/%s %.2f (%s %g: %s)", g.what, g.of, r, sign, g.bound, verdict))
	}
	fmt.Fprintln(w, "   "+strings.Join(texts, ", "))
}

// bound prints whether a figure of one column is within a bound.
func bound(w io.Writer, column string, v, most float64, unit string) {
	verdict := "met"
	if v > most {
		verdict = "MISSED"
	}
	fmt.Fprintf(w, "%-46s %s %s %s (≤ %g: %s)\n", "", column, number(v), unit, most, verdict)
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
