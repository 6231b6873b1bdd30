package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock/internal/atomicfile"
	"github.com/penstock/penstock/loadtest"
)

// compareFile is the file of a comparison's charts.
const compareFile = "compare.html"

func compareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Compare two load tests by the directories of their reports",
		Long: `Compare two load tests by the directories that --out named: what changed from A to B, as a table on stdout or
with -o json, and an HTML page with the charts of both over each other.

A change says nothing by itself: two runs of the same load differ, too. Where the two were not alike, in their rate, sale or
machine, or one had a generator that was late, a note on stderr says so.`,
		Example: "  penstock loadtest compare report-before report-after",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := newPrinter(cmd)
			if err != nil {
				return err
			}
			path, err := cmd.Flags().GetString("html")
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("html") {
				path = filepath.Join(args[1], compareFile)
			}
			a, err := readReport(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			b, err := readReport(args[1])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if err := showComparison(cmd, p, loadtest.Compare(args[0], a, args[1], b), path); err != nil {
				return failure(err)
			}
			return nil
		},
	}
	cmd.Flags().StringP("output", "o", "table", "how to print the comparison: table or json")
	cmd.Flags().String("html", "", "file for the page with the charts (default "+compareFile+" in B)")
	return cmd
}

// readReport reads the summary in a directory, or a summary itself.
func readReport(path string) (*loadtest.Summary, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, summaryFile)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: is not there: name the directory that --out of a load test named", path)
	}
	if err != nil {
		return nil, err
	}
	s, err := loadtest.ReadSummary(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// showComparison writes the page, and prints the numbers.
func showComparison(cmd *cobra.Command, p *printer, c *loadtest.Comparison, path string) error {
	if err := atomicfile.Write(path, c.HTML(), 0o644); err != nil {
		return err
	}
	for _, note := range append(c.Notes, "charts: "+path) {
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), shown(note)); err != nil {
			return err
		}
	}
	if p.json {
		return p.value(c)
	}
	number := func(n *float64) string {
		if n == nil {
			return "–"
		}
		return strconv.FormatFloat(*n, 'f', -1, 64)
	}
	const row = "%-28s%14s%14s%13s\n"
	var table strings.Builder
	fmt.Fprintf(&table, row, "", "A", "B", "CHANGE")
	fmt.Fprintf(&table, row, "verdict", shown(string(c.A.Verdict)), shown(string(c.B.Verdict)), "")
	for i := range c.Rows {
		d := &c.Rows[i]
		name := d.Name
		if d.Unit != "" {
			name += " " + d.Unit
		}
		fmt.Fprintf(&table, row, name, number(d.A), number(d.B), d.Changed())
	}
	_, err := io.WriteString(p.out, table.String())
	return err
}
