package main

import "testing"

// Names of servers are logged: no password may be in them, wherever the URL has it.
func TestDatabaseName_ShowsNoPassword(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://u:hush@db:5432/penstock?sslmode=require":       "postgres://db:5432/penstock",
		"postgres://db/penstock?user=u&password=hush":              "postgres://db/penstock",
		"postgres://u:hu@sh@db/penstock":                           "postgres://db/penstock",
		"postgresql://u:hush%40@[::1]:5432/a%20b#hush":             "postgresql://[::1]:5432/a%20b",
		"postgres://u:hush@one:5432,two:5433/x?target=read#":       "postgres://one:5432,two:5433/x",
		"postgres://u:hu#sh@db/penstock":                           "(unreadable URL)",
		"postgres://u:hush@one,two/x?target_session_attrs=primary": "postgres://one,two/x",
	} {
		if got := databaseName(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
