package sim

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// disk is a database file that one store after another has. Its connections stay open from store to
// store, and so do the statements that they have prepared: that took SQLite a third of a run. The
// content of the disk is exchanged page by page, in a transaction, so that it equals a copy of a
// file.
type disk struct {
	file string // fixed

	// Its user's:
	writer driver.Connector // the first store's way to open a connection that writes
	own    *keptConn        // reads and writes images; nil before it is needed
	was    image            // that was put on it last
	log    int64            // how long the write-ahead log was then, if that was not emptied

	texts   *texts
	answers answers

	mu   sync.Mutex
	idle map[string][]*keptConn // guarded by mu: that no store has, by how they are opened
}

// image is what is on a disk: the pages of the database file.
type image [][]byte

// pageSize is SQLite's.
const pageSize = 4096

// readImage reads a file that nobody has open.
func readImage(file string) (image, error) {
	all, err := os.ReadFile(file)
	if err == nil && len(all)%pageSize != 0 {
		err = fmt.Errorf("%s has %d bytes, and that is no number of pages", file, len(all))
	}
	return slices.Collect(slices.Chunk(all, pageSize)), err
}

// disks are those that were made.
type disks struct {
	dir     string
	doubted bool // their answers are
	texts   texts

	mu   sync.Mutex
	all  []*disk // guarded by mu
	free []*disk // guarded by mu: that no store has
}

// take returns a disk with an image on it, of which these are the first answers; nil is none. It is
// its caller's until it is given back.
func (d *disks) take(ctx context.Context, i image, first *firstAnswers) (*disk, error) {
	taken, err := d.some(i)
	if err == nil && taken.writer != nil { // it is not new
		err = taken.write(ctx, i)
	}
	if err == nil {
		taken.answers.begin(first)
	}
	return taken, err
}

// some returns a disk that nobody has.
func (d *disks) some(i image) (*disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.free); n > 0 {
		taken := d.free[n-1]
		d.free = d.free[:n-1]
		return taken, nil
	}
	made := &disk{
		file: filepath.Join(d.dir, fmt.Sprintf("disk-%d.db", len(d.all))), was: i, texts: &d.texts,
		idle: make(map[string][]*keptConn), answers: answers{doubted: d.doubted},
	}
	if err := os.WriteFile(made.file, slices.Concat(i...), 0o600); err != nil {
		return nil, err
	}
	d.all = append(d.all, made)
	return made, nil
}

// give takes a disk back. Its store is closed.
func (d *disks) give(given *disk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = append(d.free, given)
}

// close closes all connections.
func (d *disks) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, disk := range d.all {
		disk.mu.Lock()
		for _, conns := range disk.idle {
			for _, c := range conns {
				errs = append(errs, c.end())
			}
		}
		disk.mu.Unlock()
		if disk.own != nil {
			errs = append(errs, disk.own.end())
		}
	}
	d.all, d.free = nil, nil
	return errors.Join(errs...)
}

// read returns what is on the disk, of transactions that are committed.
func (d *disk) read(ctx context.Context) (image, error) {
	changed, err := d.changed()
	if err != nil {
		return nil, err
	}
	var first image
	if err := d.page(ctx, 1, &first); err != nil {
		return nil, err
	}
	now := make(image, 0, first.pages())
	for n := range first.pages() {
		if n < len(d.was) && !changed[n] {
			now = append(now, d.was[n])
		} else if err := d.page(ctx, n+1, &now); err != nil {
			return nil, err
		}
	}
	return now, nil
}

// page reads a page and appends it.
func (d *disk) page(ctx context.Context, number int, to *image) error {
	return d.query(ctx, "SELECT data FROM sqlite_dbpage WHERE pgno = ?", func(row []driver.Value) {
		*to = append(*to, row[0].([]byte))
	}, int64(number))
}

// pages is how many pages the database has; the file may be longer.
func (i image) pages() int { return int(binary.BigEndian.Uint32(i[0][28:])) }

// The write-ahead log has a head, and a frame for each page.
const (
	logHead   = 32
	frameHead = 24
)

// changed returns the pages that may differ from the last image that was put on the disk: those in
// the write-ahead log behind it. SQLite does not empty the log in between: it is never so long.
func (d *disk) changed() (map[int]bool, error) {
	log, err := os.Open(d.file + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer log.Close()
	changed := make(map[int]bool)
	var number [4]byte
	for at := max(logHead, d.log); ; at += frameHead + pageSize {
		switch _, err := log.ReadAt(number[:], at); {
		case errors.Is(err, io.EOF):
			return changed, nil
		case err != nil:
			return nil, err
		}
		changed[int(binary.BigEndian.Uint32(number[:]))-1] = true
	}
}

// write puts an image on the disk. No store has it.
func (d *disk) write(ctx context.Context, i image) (err error) {
	changed, err := d.changed()
	if err != nil {
		return err
	}
	if err := d.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.exec(ctx, "ROLLBACK"))
		}
	}()
	for n, page := range i {
		if n < len(d.was) && !changed[n] && bytes.Equal(d.was[n], page) {
			continue
		}
		if err := d.exec(ctx, "INSERT INTO sqlite_dbpage (pgno, data) VALUES (?, ?)", int64(n+1), page); err != nil {
			return err
		}
	}
	if err := d.exec(ctx, "COMMIT"); err != nil {
		return err
	}
	d.was = i
	log, err := os.Stat(d.file + "-wal")
	if err != nil {
		return err
	}
	if d.log = log.Size(); d.log < longLog {
		return nil
	}
	d.log = 0
	return d.exec(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
}

// longLog is when the log is folded in and emptied: some ten runs write so much. A store would do
// it after 64 MiB.
const longLog = 16 << 20

func (d *disk) exec(ctx context.Context, text string, args ...driver.Value) error {
	return d.query(ctx, text, func([]driver.Value) {}, args...)
}

// query runs a statement on the disk's own connection. A row is its receiver's.
func (d *disk) query(ctx context.Context, text string, each func(row []driver.Value), args ...driver.Value) (err error) {
	if d.own == nil {
		conn, err := d.writer.Connect(ctx)
		if err != nil {
			return err
		}
		d.own = &keptConn{Conn: conn, texts: d.texts, kept: make(map[string]*keptStmt)}
	}
	stmt, err := d.own.PrepareContext(ctx, text)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()
	named := make([]driver.NamedValue, len(args))
	for n, arg := range args {
		named[n] = driver.NamedValue{Ordinal: n + 1, Value: arg}
	}
	rows, err := stmt.(driver.StmtQueryContext).QueryContext(ctx, named)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		each(row)
	}
}

// connector is how a store opens its connections: it gets those that the last one had.
type connector struct {
	driver.Connector
	disk *disk
	dsn  string
}

// connect is a sqlite.Config's. One process has the file, so the locks of its connections need not
// be the system's: that is what unix-excl says.
func (d *disk) connect(dsn string, open func(string) (driver.Connector, error)) (driver.Connector, error) {
	own, err := open(dsn + "&vfs=unix-excl")
	if err != nil {
		return nil, err
	}
	if d.writer == nil && !readsOnly(dsn) {
		d.writer = own
	}
	return &connector{own, d, dsn}, nil
}

// readsOnly reports whether what is opened so never writes.
func readsOnly(dsn string) bool { return strings.Contains(dsn, "query_only") }

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	c.disk.mu.Lock()
	idle := c.disk.idle[c.dsn]
	if n := len(idle); n > 0 {
		defer c.disk.mu.Unlock()
		c.disk.idle[c.dsn] = idle[:n-1]
		return idle[n-1], nil
	}
	c.disk.mu.Unlock()
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.disk.texts.learn(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &keptConn{
		Conn: conn, disk: c.disk, texts: c.disk.texts, dsn: c.dsn, kept: make(map[string]*keptStmt), reads: readsOnly(c.dsn),
	}, nil
}

// keptConn is a connection that is kept when it is closed. It is its user's alone.
type keptConn struct {
	driver.Conn
	disk  *disk // nil for the disk's own
	texts *texts
	dsn   string
	kept  map[string]*keptStmt
	reads bool // it never writes
	in    bool // a transaction of driver.Tx

	// Of the transaction:
	pinned bool  // its first query was made
	at     epoch // whose state it sees
	exact  bool  // at is right

	alone bool   // no other connection can write, from BEGIN IMMEDIATE on
	wrote tables // what was written since the last COMMIT or ROLLBACK
}

// keptStmt is a statement that is kept when it is closed.
type keptStmt struct {
	stmt
	conn *keptConn
	text *text
	used bool
}

type stmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

func (c *keptConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	if kept := c.kept[text]; kept != nil && !kept.used {
		kept.used = true
		return kept, nil
	}
	made, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s := &keptStmt{made.(stmt), c, c.texts.of(text), true}
	if c.kept[text] == nil { // two are in use at once: one is enough to keep
		c.kept[text] = s
	}
	return s, nil
}

func (s *keptStmt) Close() error {
	s.used = false
	if s.conn.kept[s.text.sql] != s {
		return s.stmt.Close()
	}
	return nil
}

// ExecContext notes what was written.
func (s *keptStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if s.text.verb == "COMMIT" && s.conn.disk != nil {
		s.conn.disk.answers.commit(s.conn.wrote)
	}
	result, err := s.stmt.ExecContext(ctx, args)
	n := int64(1)
	if err == nil {
		n, _ = result.RowsAffected() // where it is nothing that counts, more is forgotten than must be
	}
	s.ran(n)
	s.conn.alone = s.conn.alone || err == nil && s.text.sql == "BEGIN IMMEDIATE"
	return result, err
}

// QueryContext answers from memory where nothing was written since the answer.
func (s *keptStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	c := s.conn
	ask := func() (driver.Rows, error) { return s.stmt.QueryContext(ctx, args) }
	q, ok := questionOf(s.text, args)
	switch {
	case !ok || s.text.verb != "SELECT" || c.disk == nil:
	case c.reads && !c.in, c.alone && c.wrote&s.text.tables == 0:
		return c.disk.answers.of(q, now, ask)
	case c.reads && !c.pinned: // the first query decides which state the others see
		c.pinned = true
		rows, at, exact, err := c.disk.answers.pin(ask)
		c.at, c.exact = at, exact
		return rows, err
	case c.reads && c.exact:
		return c.disk.answers.of(q, c.at, ask)
	}
	rows, err := ask()
	s.ran(1)
	return rows, err
}

// ran notes that a statement has changed so many rows, or may have.
func (s *keptStmt) ran(rows int64) {
	switch s.text.verb {
	case "BEGIN", "SELECT":
	case "COMMIT", "ROLLBACK":
		s.conn.ended()
	case "INSERT", "UPDATE", "DELETE":
		if rows > 0 {
			s.conn.wrote |= s.text.tables
		}
	default:
		s.conn.wrote = everyTable
	}
}

// ended notes the end of a transaction that may have written.
func (c *keptConn) ended() {
	if c.wrote != 0 && c.disk != nil {
		c.disk.answers.forget(c.wrote)
	}
	c.wrote, c.alone = 0, false
}

func (c *keptConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	c.in, c.pinned, c.exact = err == nil, false, false
	return &keptTx{tx, c}, err
}

// keptTx is a transaction of database/sql. A store's writer has its own.
type keptTx struct {
	driver.Tx
	conn *keptConn
}

func (t *keptTx) Commit() error {
	t.conn.in = false
	t.conn.wrote = everyTable
	t.conn.disk.answers.commit(everyTable)
	err := t.Tx.Commit()
	t.conn.ended()
	return err
}

func (t *keptTx) Rollback() error {
	t.conn.in = false
	return t.Tx.Rollback()
}

func (c *keptConn) ResetSession(ctx context.Context) error {
	return c.Conn.(driver.SessionResetter).ResetSession(ctx)
}

func (c *keptConn) IsValid() bool { return c.Conn.(driver.Validator).IsValid() }

// Close gives the connection back, unless it is broken.
func (c *keptConn) Close() error {
	if !c.IsValid() {
		return c.end()
	}
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	c.disk.idle[c.dsn] = append(c.disk.idle[c.dsn], c)
	return nil
}

// end closes it in earnest.
func (c *keptConn) end() error {
	var errs []error
	for _, s := range c.kept {
		errs = append(errs, s.stmt.Close())
	}
	return errors.Join(append(errs, c.Conn.Close())...)
}
