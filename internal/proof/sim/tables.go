package sim

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
	"sync"
)

// tables is a set of the database's tables.
type tables uint64

// everyTable is all of them, and what is no table.
const everyTable = ^tables(0)

// maxTables is how many a set can have. The last place stands for what is no table.
const maxTables = 64

// takeOne takes a table out of a set that has some.
func (t *tables) takeOne() int {
	n := bits.TrailingZeros64(uint64(*t))
	*t &= *t - 1
	return n
}

// text is what a statement says.
type text struct {
	sql    string
	verb   string // its first word
	tables tables // that it reads or writes, and perhaps some more
}

// texts are the statements that a database with the schema was asked for. Equal ones are one text.
type texts struct {
	mu     sync.Mutex
	tables map[string]tables // guarded by mu: by their names; nil before they were learned
	known  map[string]*text  // guarded by mu
}

// learn asks a database with the schema for its tables, once.
func (t *texts) learn(ctx context.Context, conn driver.Conn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tables != nil {
		return nil
	}
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table'", nil)
	if err != nil {
		return err
	}
	set, row := make(map[string]tables), make([]driver.Value, 1)
	for err = rows.Next(row); err == nil; err = rows.Next(row) {
		set[row[0].(string)] = 1 << len(set)
	}
	if err := rows.Close(); err != nil {
		return err
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	if len(set) == 0 || len(set) >= maxTables {
		return fmt.Errorf("a database of %d tables", len(set))
	}
	t.tables, t.known = set, make(map[string]*text)
	return nil
}

// of returns the text of a statement.
func (t *texts) of(statement string) *text {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.known[statement]
	if known == nil {
		verb, _, _ := strings.Cut(statement, " ")
		known = &text{sql: statement, verb: verb, tables: t.namedLocked(statement)}
		t.known[statement] = known
	}
	return known
}

// namedLocked returns the tables that a statement names, or seems to: a column may have the name
// of a table. One that names none may be about anything. No trigger of ours writes, and no
// reference deletes or changes rows.
func (t *texts) namedLocked(statement string) (named tables) {
	for word := range strings.FieldsFuncSeq(statement, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		named |= t.tables[word]
	}
	if named == 0 {
		return everyTable
	}
	return named
}
