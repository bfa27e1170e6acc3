package main

import (
	"runtime"
	"runtime/debug"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// versionCommand prints which p2pnode this is.
func versionCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := version()
			return e.print(struct {
				Version int    `json:"v"`
				P2pnode string `json:"p2pnode"`
				Go      string `json:"go"`
			}{control.Version, v, runtime.Version()}, "p2pnode %s %s", v, runtime.Version())
		},
	}
}

// version is that of the module as the go command recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
