package sim

import (
	"database/sql/driver"
	"testing"
)

// TestAnswers: an answer is kept until one of its tables is written to, and a snapshot is not
// answered with what was written after it.
func TestAnswers(t *testing.T) {
	const orders, stock = tables(1), tables(2)
	var a answers
	var first firstAnswers
	says := func(n int64) func() (driver.Rows, error) {
		return func() (driver.Rows, error) {
			return &answerRows{answer: answer{columns: []string{"n"}, rows: [][]driver.Value{{n}}}}, nil
		}
	}
	text := &text{sql: "SELECT n FROM orders", verb: "SELECT", tables: orders}
	check := func(when string, at epoch, says func() (driver.Rows, error), want int64) {
		t.Helper()
		rows, err := a.of(question{text: text}, at, says)
		must(t, err)
		row := make([]driver.Value, 1)
		must(t, rows.Next(row))
		if row[0] != want {
			t.Errorf("%s: the answer is %v, want %d", when, row[0], want)
		}
	}
	a.begin(&first)
	check("first", now, says(1), 1)
	a.hasBegun()
	check("again", now, says(2), 1)
	a.commit(stock)
	a.forget(stock)
	check("another table was written to", now, says(2), 1)

	_, pinned, exact, err := a.pin(says(0))
	must(t, err)
	if !exact {
		t.Error("nothing was committed, and the snapshot's state is not known")
	}
	check("in a snapshot", pinned, says(2), 1)
	a.commit(orders)
	check("in a snapshot, during a commit", pinned, says(2), 2)
	if _, _, exact, err := a.pin(says(0)); err != nil || exact {
		t.Errorf("a snapshot that begins during a commit is exact: %v, %v", exact, err)
	}
	a.forget(orders)
	check("after a commit", now, says(3), 3)
	check("in the snapshot before it", pinned, says(4), 4)
	check("after a question of that snapshot", now, says(5), 3)
	_, _, exact, err = a.pin(func() (driver.Rows, error) { a.forget(orders); return nil, nil })
	must(t, err)
	if exact {
		t.Error("a snapshot is exact, though something was committed when it began")
	}

	a.begin(&first)
	check("the image is put on the disk once more", now, says(6), 1)
	a.forget(orders)
	check("it was written to", now, says(7), 7)
	a.begin(nil)
	check("another image is put on the disk", now, says(8), 8)
}

// TestTexts: a statement is about the tables that it names.
func TestTexts(t *testing.T) {
	texts := texts{tables: map[string]tables{"orders": 1, "stock": 2, "stock_changes": 4}, known: make(map[string]*text)}
	for statement, want := range map[string]text{
		"SELECT id FROM orders WHERE x = ?":                          {verb: "SELECT", tables: 1},
		"UPDATE stock SET open = 1":                                  {verb: "UPDATE", tables: 2},
		"SELECT 1 FROM orders,stock_changes":                         {verb: "SELECT", tables: 5},
		"SELECT sum(stock.total)\n\tFROM \"orders\" JOIN stock AS s": {verb: "SELECT", tables: 3},
		"COMMIT":                                {verb: "COMMIT", tables: everyTable},
		"SELECT count(*) FROM sqlite_schema":    {verb: "SELECT", tables: everyTable},
		"SELECT application_id FROM pragma_all": {verb: "SELECT", tables: everyTable},
	} {
		got := texts.of(statement)
		want.sql = statement
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
		if texts.of(statement) != got {
			t.Errorf("%s is two texts", statement)
		}
	}
}
