package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
)

// sshWay is the way through ssh -L, to an sshd of its own that runs as the
// present user and knows one key.
type sshWay struct{ overTCP }

func (sshWay) name() string { return "ssh" }

func (sshWay) start(ctx context.Context, s *site, server string) (string, error) {
	sshd, err := findSSH()
	if err != nil {
		return "", err
	}
	for _, key := range []string{"host", "client"} {
		file := filepath.Join(s.dir, key)
		if _, err := s.output(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file); err != nil {
			return "", err
		}
	}
	daemon, err := s.far.freeAddr()
	if err != nil {
		return "", err
	}
	if err := startSSHD(ctx, s, sshd, daemon, server); err != nil {
		return "", skip(err.Error())
	}
	return startSSH(s, daemon, server)
}

// findSSH returns the path of sshd, which refuses to run unless it is absolute
// and which often lies outside PATH.
func findSSH() (string, error) {
	for _, tool := range []string{"ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", skip(tool + " is not installed")
		}
	}
	for _, name := range []string{"sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", skip("sshd is not installed")
}

// startSSHD starts a daemon at addr that lets its one user forward to server
// and do nothing else, and waits until it listens.
func startSSHD(ctx context.Context, s *site, sshd, addr, server string) error {
	host, port, _ := net.SplitHostPort(addr)
	config := filepath.Join(s.dir, "sshd_config")
	text := strings.Join([]string{
		"ListenAddress " + host, "Port " + port,
		"HostKey " + filepath.Join(s.dir, "host"),
		"AuthorizedKeysFile " + filepath.Join(s.dir, "client.pub"),
		"StrictModes no", // the scratch folder lies in a folder that others may write to
		"AuthenticationMethods publickey", "PermitRootLogin prohibit-password",
		"UsePAM no", "PidFile none", "PermitTTY no", "X11Forwarding no", "AllowAgentForwarding no",
		"AllowTcpForwarding local", "PermitOpen " + server, "",
	}, "\n")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if err := satisfySSHD(ctx, s, sshd, config); err != nil {
		return err
	}
	if _, err := s.start("sshd", s.far.command(sshd, "-D", "-e", "-f", config)); err != nil {
		return err
	}
	return s.retry(ctx, func(ctx context.Context) error {
		return s.near.do(func() error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err == nil {
				conn.Close()
			}
			return err
		})
	})
}

// satisfySSHD lets sshd check its configuration, and makes the empty folder
// that it wants as root and that nobody may have made since the machine started.
func satisfySSHD(ctx context.Context, s *site, sshd, config string) error {
	_, err := s.output(ctx, sshd, "-t", "-f", config)
	if err == nil {
		return nil
	}
	_, dir, ok := strings.Cut(err.Error(), "Missing privilege separation directory: ")
	if !ok {
		return err
	}
	dir, _, _ = strings.Cut(dir, "\n")
	if err := os.Mkdir(strings.TrimSpace(dir), 0o755); err != nil {
		return err
	}
	s.onStop(func() { os.Remove(strings.TrimSpace(dir)) })
	_, err = s.output(ctx, sshd, "-t", "-f", config)
	return err
}

// startSSH starts the client, which will listen at the address returned.
func startSSH(s *site, daemon, server string) (string, error) {
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	hostKey, err := os.ReadFile(filepath.Join(s.dir, "host.pub"))
	if err != nil {
		return "", err
	}
	host, port, _ := net.SplitHostPort(daemon)
	known := filepath.Join(s.dir, "known_hosts")
	if err := os.WriteFile(known, fmt.Appendf(nil, "[%s]:%s %s", host, port, hostKey), 0o600); err != nil {
		return "", err
	}
	listen, err := s.near.freeAddr()
	if err != nil {
		return "", err
	}
	_, err = s.start("ssh", s.near.command("ssh", "-F", "none", "-N", "-T", "-p", port,
		"-c", "aes128-gcm@openssh.com", "-i", filepath.Join(s.dir, "client"),
		"-o", "UserKnownHostsFile="+known, "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
		"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "Compression=no",
		"-o", "ExitOnForwardFailure=yes", "-o", "ControlPath=none",
		"-L", listen+":"+server, me.Username+"@"+host))
	return listen, err
}
