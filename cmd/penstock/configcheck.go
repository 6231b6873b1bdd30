package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func configCommand() *cobra.Command {
	return group("config", "Work with configuration files", &cobra.Command{
		Use:   "check FILE",
		Short: "Validate a configuration file, with the environment, without starting anything",
		Long: `Validate a configuration file without starting anything, together with the environment (PENSTOCK_…): secrets have no
place in a file. All mistakes are reported at once, each with file, line and a suggestion where one is near. Exits 2 when
there is one.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := pflag.NewFlagSet("check", pflag.ContinueOnError)
			flags.String("config", "", "")
			if err := flags.Set("config", args[0]); err != nil {
				return err
			}
			if _, err := loadConfig(flags, os.Getenv); err != nil {
				return &exitError{exitUsage, err}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", args[0])
			return err
		},
	})
}

// commandConfig loads the configuration of a command that has the settings' flags.
func commandConfig(cmd *cobra.Command) (Config, error) {
	config, err := loadConfig(cmd.Flags(), os.Getenv)
	if err != nil {
		return Config{}, &exitError{exitUsage, err}
	}
	return config, nil
}
