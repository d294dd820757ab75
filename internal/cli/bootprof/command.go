package bootprof

import "github.com/spf13/cobra"

// Command returns the command with all its subcommands, for who writes documents from them.
func Command() *cobra.Command { return newCommand() }
