package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/penstock/penstock/internal/proof/servers"
)

// TestMigrate runs the commands of a user on a real server, and checks their output.
func TestMigrate(t *testing.T) {
	server := servers.NewPostgres(t)
	url := server.Database(t, "")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/servers", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("DATABASE", url)
			env.Setenv("MISSING", server.URL("missing"))
			return os.WriteFile(filepath.Join(env.WorkDir, "penstock.yaml"), []byte("database: "+url+"\n"), 0o600)
		},
	})
}

func TestMigrate_ExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"migrate"}, exitUsage},
		{[]string{"migrate", "--database", "mysql://x"}, exitUsage},
		{[]string{"migrate", "--database", "postgres://u@h/x", "--wait", "-1s"}, exitUsage},
		{[]string{"migrate", "--database", "postgres://u@127.0.0.1:1/x?sslmode=disable", "--wait", "0s"}, exitDependency},
	} {
		root := rootCommand()
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		root.SetArgs(c.args)
		err := root.ExecuteContext(t.Context())
		var coded *exitError
		if !errors.As(err, &coded) || coded.code != c.want {
			t.Errorf("%v: %v, want exit code %d", c.args, err, c.want)
		}
	}
}
