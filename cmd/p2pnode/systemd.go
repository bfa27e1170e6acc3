package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"text/template"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// systemDir is the directory of the node that the system's own unit runs.
const systemDir = "/var/lib/p2pnode"

// systemdCommand prints units.
func systemdCommand(e *env) *cobra.Command {
	var u unit
	var socket bool
	cmd := &cobra.Command{
		Use:   "systemd",
		Short: "Print a systemd unit that runs a node",
		Long: `Print a unit with which systemd runs a node: the system's, of a user that systemd
makes for it, in ` + systemDir + `, or with --user the user's own, in the
node's directory. systemd waits until the node is ready, and starts it again when it
fails or does not answer any more.

With --socket it is the unit of the control socket, with which the node starts when
the first command asks it something.`,
		Example: `  p2pnode systemd | sudo tee /etc/systemd/system/p2pnode.service
  p2pnode systemd --user > ~/.config/systemd/user/p2pnode.service
  p2pnode systemd --user --socket > ~/.config/systemd/user/p2pnode.socket`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := u.complete(e); err != nil {
				return err
			}
			t := serviceUnit
			if socket {
				t = socketUnit
			}
			var text bytes.Buffer
			if err := t.Execute(&text, u); err != nil {
				return err
			}
			return e.print(printedUnit{control.Version, text.String()}, "%s", strings.TrimSuffix(text.String(), "\n"))
		},
	}
	cmd.Flags().BoolVar(&u.User, "user", false, "for the user's own systemd")
	cmd.Flags().BoolVar(&socket, "socket", false, "the unit of the control socket")
	cmd.Flags().StringVar(&u.Config, "config", "", "the node's configuration file, as an absolute path")
	return cmd
}

// A printedUnit has the text of a unit.
type printedUnit struct {
	Version int    `json:"v"`
	Unit    string `json:"unit"`
}

// A unit is what a unit is made of.
type unit struct {
	User    bool
	Command string // the path of this program
	Dir     string
	Config  string
	Socket  string
}

// complete finds out what no flag says.
func (u *unit) complete(e *env) (err error) {
	if u.Config != "" && !strings.HasPrefix(u.Config, "/") {
		return usagef("--config %q: want an absolute path, for systemd has another working directory", u.Config)
	}
	if u.Command, err = os.Executable(); err != nil {
		return err
	}
	if u.Dir = systemDir; u.User || e.dir != "" {
		if u.Dir, err = e.directory(); err != nil {
			return err
		}
	}
	u.Socket, err = control.SocketPath(u.Dir)
	return err
}

// quoted writes an argument of a command as systemd reads it.
func quoted(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\n", `\n`).Replace(s)
	if strings.ContainsAny(s, " \t'\"\\;") {
		return `"` + s + `"`
	}
	return s
}

// percent writes a path, which systemd takes as it is but for its specifiers.
func percent(s string) string { return strings.ReplaceAll(s, "%", "%%") }

var unitFuncs = template.FuncMap{"quoted": quoted, "percent": percent}

var serviceUnit = template.Must(template.New("service").Funcs(unitFuncs).Parse(`[Unit]
Description=Node of a private mesh (p2pnode)
{{- if not .User}}
Wants=network-online.target
After=network-online.target
{{- end}}

[Service]
Type=notify
ExecStart={{quoted .Command}} up --dir {{quoted .Dir}}{{if .Config}} --config {{quoted .Config}}{{end}}
{{- if .Config}}
ExecReload=kill -HUP $MAINPID
{{- end}}
Restart=on-failure
RestartSec=2s
TimeoutStartSec=2min
WatchdogSec=30s
LimitNOFILE=65536
UMask=0077
{{- if not .User}}
DynamicUser=yes
StateDirectory=p2pnode
StateDirectoryMode=0700
RuntimeDirectory=p2pnode
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=%t/p2pnode
# A port below 1024 is listened at with AmbientCapabilities=CAP_NET_BIND_SERVICE.
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
{{- end}}
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy={{if .User}}default.target{{else}}multi-user.target{{end}}
`))

var socketUnit = template.Must(template.New("socket").Funcs(unitFuncs).Parse(`[Unit]
Description=Control socket of p2pnode

[Socket]
ListenStream={{percent .Socket}}
SocketMode=0600
DirectoryMode=0700

[Install]
WantedBy=sockets.target
`))

// listenControl makes the node's control socket, or takes the one that systemd has
// made.
func listenControl(dir string) (net.Listener, error) {
	path, err := control.SocketPath(dir)
	if err != nil {
		return nil, err
	}
	given, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	for _, l := range given {
		if l != nil && l.Addr().Network() == "unix" && l.Addr().String() == path {
			return l, nil
		}
	}
	return control.Listen(dir)
}

// tellReady tells systemd that the node is ready, if it is systemd that runs it.
func tellReady() error {
	_, err := sd.SdNotify(false, sd.SdNotifyReady)
	if err != nil {
		return fmt.Errorf("tell systemd that the node is ready: %w", err)
	}
	return nil
}

// runWatchdog tells systemd, if it wants to know, that the node answers, until ctx
// ends.
func (e *env) runWatchdog(ctx context.Context, dir string) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		e.logger().Warn("watchdog", "err", err)
	}
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		err := answers(ctx, dir, every/2)
		if err == nil {
			_, err = sd.SdNotify(false, sd.SdNotifyWatchdog)
		}
		if err != nil && ctx.Err() == nil {
			e.logger().Warn("watchdog", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// answers asks a node as any command would.
func answers(ctx context.Context, dir string, patience time.Duration) error {
	c, err := control.Open(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = c.Status(ctx)
	return err
}
