package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock/internal/atomicfile"
	"github.com/penstock/penstock/seckill"
)

// archiveCommand exports an ended activity's orders.
func archiveCommand() *cobra.Command {
	var out string
	cmd := command("archive ACTIVITY --out FILE",
		"Export the orders of an ended activity to a file, checked against the stock's books", cobra.ExactArgs(1), false,
		func(s *session, args []string) error { return s.archive(args[0], out) })
	cmd.Long = cmd.Short + `.

FILE gets all orders, a JSON object a line, and FILE.sha256 its checksum, as sha256sum -c reads it. FILE is written only
when all is there: for each item the units of its paid orders are what the books have as sold, and no order is open any
more. Nothing is taken away on the server: that is what ctl activities drop is for, or --drop-ended-after of its
processes.`
	cmd.Flags().StringVar(&out, "out", "", "the file; it must not be there yet")
	required(cmd, "out")
	return cmd
}

// dropCommand lets the server drop an activity's orders that are in an archive.
func dropCommand() *cobra.Command {
	var file string
	cmd := asks(command("drop ACTIVITY --archive FILE",
		"Let the server delete the orders of an ended activity; FILE must be their archive", cobra.ExactArgs(1), true,
		func(s *session, args []string) error { return s.drop(args[0], file) }))
	cmd.Long = cmd.Short + `.

FILE is what ctl activities archive wrote. The server compares its checksum with the orders as they are now: none may be
open, no refund due, and nothing changed since. A week after the activity closed, and a day (--retention), it is dropped
with its orders; where it is paid for before, a new archive is needed. Payments and the record of changes stay. Until it
is dropped, ctl changes revert takes the mark back.`
	cmd.Flags().StringVar(&file, "archive", "", "the archive")
	required(cmd, "archive")
	return cmd
}

// drop marks an activity to be dropped, after it has checked the archive.
func (s *session) drop(activity, path string) error {
	sum, err := checkArchive(path)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("Delete the orders of %s on the server? Afterwards only %s has them.", activity, path)
	if err := s.sure(question); err != nil {
		return err
	}
	var doc struct {
		Orders    int64
		KeptUntil time.Time `json:"kept_until"`
	}
	text, err := s.read(s.cmd.Context(), &doc, post(map[string]any{"sha256": sum, "confirm": true}, "activities", activity, "archive"))
	if err != nil {
		return err
	}
	err = s.note("%s of %s will be deleted after %s", counted(doc.Orders, "order"), activity, timeText(doc.KeptUntil, time.Now()))
	if err != nil {
		return err
	}
	return s.object(text, "activity", "orders", "sha256", "kept_until")
}

// checkArchive returns the checksum of an archive, after it has compared it with the .sha256 file
// beside the archive.
func checkArchive(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", &exitError{exitUsage, fmt.Errorf("flag --archive: %w", err)}
	}
	defer file.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return "", &exitError{exitFailure, fmt.Errorf("read the archive: %w", err)}
	}
	sum := hex.EncodeToString(digest.Sum(nil))
	said, err := os.ReadFile(path + ".sha256")
	if err != nil {
		return "", &exitError{exitUsage, fmt.Errorf("flag --archive: %w", err)}
	}
	if want, _, _ := strings.Cut(string(said), " "); want != sum {
		return "", &exitError{exitFailure, fmt.Errorf("%s is not what was archived: its SHA-256 is %s, not %s", path, sum, want)}
	}
	return sum, nil
}

// archive exports an activity's orders.
func (s *session) archive(activity, out string) error {
	sum := out + ".sha256"
	for _, path := range []string{out, sum} {
		if _, err := os.Lstat(path); err == nil {
			return &exitError{exitUsage, fmt.Errorf("flag --out: %s is there already: an archive is never overwritten", path)}
		}
	}
	var sale struct{ State string }
	if _, err := s.read(s.cmd.Context(), &sale, get("activities", activity)); err != nil {
		return err
	}
	if sale.State != "ended" {
		return &exitError{exitFailure, fmt.Errorf("%s is %s: only an ended activity is archived: ctl activities end", activity, sale.State)}
	}
	file, err := atomicfile.Create(out, 0o600) // the file has buyers' names, so only this user may read it
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("flag --out: %w", err)}
	}
	defer file.Discard()
	archive := &archived{hash: sha256.New(), items: make(map[string]*archivedItem)}
	query := url.Values{"activity": {activity}, "format": {"ndjson"}}
	lines, counting := io.Pipe()
	counted := make(chan error, 1)
	go func() {
		err := archive.count(lines)
		lines.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
		counted <- err
	}()
	request := adminRequest{method: http.MethodGet, path: []string{"orders", "export"}, query: query}
	err = s.stream(request, io.MultiWriter(file, archive.hash, counting))
	counting.Close() // closing a pipe's reader can't fail
	err = errors.Join(<-counted, err)
	if err == nil {
		err = s.balances(activity, archive)
	}
	if err != nil {
		return err
	}
	digest := hex.EncodeToString(archive.hash.Sum(nil))
	if err := atomicfile.Write(sum, []byte(digest+"  "+filepath.Base(out)+"\n"), 0o600); err != nil {
		return err
	}
	if err := file.Commit(); err != nil {
		return err
	}
	return s.archivedIs(activity, out, digest, archive)
}

// archived is the summary of an export.
type archived struct {
	hash   hash.Hash
	orders int64
	items  map[string]*archivedItem
	money  map[string]int64 // of paid orders, in minor units, by currency
}

// archivedItem sums up the orders of an item, in units.
type archivedItem struct{ open, sold int64 }

// count adds up the orders of an export.
func (a *archived) count(export io.Reader) error {
	a.money = make(map[string]int64)
	lines := bufio.NewScanner(export)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	for lines.Scan() {
		var o struct {
			Order, SKU, Status, Currency string
			Quantity, Amount             int64
		}
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil || o.Order == "" || o.Status == "" {
			return &exitError{exitFailure, fmt.Errorf("read the export: line %d is no order", a.orders+1)}
		}
		a.orders++
		item := a.items[o.SKU]
		if item == nil {
			item = new(archivedItem)
			a.items[o.SKU] = item
		}
		switch o.Status {
		case "queued", "parked", "pending_payment":
			item.open += o.Quantity
		case "paid":
			item.sold += o.Quantity
			a.money[o.Currency] += o.Amount
		}
	}
	return lines.Err()
}

// balances compares an export with the books.
func (s *session) balances(activity string, a *archived) error {
	var audit struct {
		Items []struct {
			itemAudit
			Orders struct{ Open, Parked, Sold int64 }
		}
	}
	if _, err := s.read(s.cmd.Context(), &audit, get("activities", activity, "audit")); err != nil {
		return err
	}
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	known := make(map[string]bool)
	for i := range audit.Items {
		item := &audit.Items[i]
		known[item.SKU] = true
		has := a.items[item.SKU]
		if has == nil {
			has = new(archivedItem)
		}
		switch {
		case item.Rebuilding:
			return &exitError{exitDependency, fmt.Errorf("%s/%s: its stock is being rebuilt: try again", activity, item.SKU)}
		case !item.Balanced || item.InFlight > 0:
			bad("%s/%s: the books don't balance yet: ctl audit %s", activity, item.SKU, activity)
		case has.open > 0 || item.Held > 0 || item.Orders.Open+item.Orders.Parked > 0:
			bad("%s/%s: open orders have %s, and may still be paid: wait until their time is over", activity, item.SKU,
				seckill.Counted(max(has.open, item.Held), "unit"))
		case has.sold != item.Orders.Sold || has.sold != item.Sold:
			bad("%s/%s: there are %s in paid orders, but %d in the database's books and %d in the stock's", activity, item.SKU,
				seckill.Counted(has.sold, "unit"), item.Orders.Sold, item.Sold)
		}
	}
	for sku := range a.items {
		if !known[sku] {
			bad("%s/%s: has orders, and is not in the books", activity, sku)
		}
	}
	if len(wrong) > 0 {
		return &exitError{exitFailure, errors.Join(wrong...)}
	}
	return nil
}

// archivedIs prints a summary of the archive.
func (s *session) archivedIs(activity, out, digest string, a *archived) error {
	sold := int64(0)
	for _, item := range a.items {
		sold += item.sold
	}
	if s.json {
		return s.value(map[string]any{
			"activity": activity, "file": out, "sha256": digest, "orders": a.orders, "units_sold": sold, "paid": a.money,
		})
	}
	var paid []string
	for _, currency := range slices.Sorted(maps.Keys(a.money)) {
		paid = append(paid, seckill.Money{Minor: a.money[currency], Currency: currency}.String())
	}
	text := fmt.Sprintf("%s of %s, %s sold for %s, as the books say", counted(a.orders, "order"), activity, counted(sold, "unit"),
		cmp.Or(strings.Join(paid, ", "), "nothing"))
	if err := s.note("%s", text); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s  %s\n", digest, shown(out))
	return err
}
