package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// unsafe has the settings of a PostgreSQL that doesn't wait for its disk. Its data still survives a
// kill -9 of the process.
var unsafe = []string{"-c", "fsync=off", "-c", "full_page_writes=off"}

// Postgres returns the URL of a new, empty database. Its server is shared by all tests of the
// binary, and doesn't wait for its disk.
func Postgres(t testing.TB) string {
	t.Helper()
	return SharedPostgres(t).Database(t, "")
}

// SharedPostgres returns the server of Postgres.
func SharedPostgres(t testing.TB) *Server {
	t.Helper()
	return all.get(t, kindPostgres, unsafe...)
}

// NewPostgres starts a PostgreSQL for the test, with its default durability. args are added to its
// command line.
func NewPostgres(t testing.TB, args ...string) *Server {
	t.Helper()
	return own(t, kindPostgres, args)
}

// URL names a database of a PostgreSQL.
func (s *Server) URL(database string) string {
	return "postgres://penstock@" + s.Addr + "/" + database + "?sslmode=disable"
}

// Database makes a database, which the test drops, and returns its URL. It is a copy of template,
// or empty where that is "".
func (s *Server) Database(t testing.TB, template string) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	create := "CREATE DATABASE " + name
	if template != "" {
		create += " TEMPLATE " + template
	}
	if err := s.execute(t.Context(), create); err != nil {
		t.Fatalf("%s: %v", create, err)
	}
	t.Cleanup(func() {
		if s.process == nil {
			return // the test has ended it
		}
		if err := s.execute(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop database %s: %v", name, err)
		}
	})
	return s.URL(name)
}

// Execute runs a statement in the database postgres.
func (s *Server) Execute(t testing.TB, text string) {
	t.Helper()
	if err := s.execute(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// ExecuteIn runs statements in the database of a URL.
func (s *Server) ExecuteIn(t testing.TB, url, text string) {
	t.Helper()
	if err := executeIn(t.Context(), url, text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func (s *Server) execute(ctx context.Context, text string) error {
	return executeIn(ctx, s.URL("postgres"), text)
}

func executeIn(ctx context.Context, url, text string) (err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, text)
	return err
}

// askPostgres connects, which a server that is starting up or recovering refuses.
func askPostgres(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
