package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration file together with the environment; it starts nothing",
		Long: `Validate a configuration file without starting anything, together with the environment (PENSTOCK_…): secrets have no
place in a file. All mistakes are reported at once, each with file, line and a suggestion where one is near. Exits 2 when
there is one. The file is FILE, or that of --config, or that of PENSTOCK_CONFIG.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := cmd.Flags().Lookup("config")
			switch {
			case len(args) == 1 && file.Changed:
				return &exitError{exitUsage, errors.New("two files are named: give either FILE or --config")}
			case len(args) == 1:
				if err := cmd.Flags().Set("config", args[0]); err != nil {
					return err
				}
			case !file.Changed && os.Getenv("PENSTOCK_CONFIG") == "":
				return &exitError{exitUsage, errors.New("no file is named: give FILE, --config or PENSTOCK_CONFIG")}
			}
			if _, err := commandConfig(cmd); err != nil {
				return err
			}
			name := cmp.Or(file.Value.String(), os.Getenv("PENSTOCK_CONFIG"))
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", name)
			return err
		},
	}
	check.Flags().String("config", "", "YAML file of settings, like FILE (environment: PENSTOCK_CONFIG)")
	return group("config", "Work with configuration files", check)
}

// commandConfig loads the configuration of a command that has flags for the settings.
func commandConfig(cmd *cobra.Command) (Config, error) {
	config, err := loadConfig(cmd.Flags(), os.Getenv)
	if err = errors.Join(misspelt(os.Environ()), err); err != nil {
		return Config{}, &exitError{exitUsage, err}
	}
	return config, nil
}
