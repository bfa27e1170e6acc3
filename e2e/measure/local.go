package main

import (
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/p2p"
)

// localFlags have a p2pnode process meet others of this machine in dir, and nowhere
// else.
func localFlags(dir string) []string {
	return []string{"--local-dir", dir, "--local-only"}
}

// localMesh has a node do so.
func localMesh(c overlay.Config, dir string) overlay.Config {
	c.LocalDir, c.LocalOnly = dir, true
	return c
}

// localPeer has a node without a mesh do so.
func localPeer(c p2p.Config, dir string) p2p.Config {
	c.Local = &p2p.Local{Dir: dir, Secret: []byte("measure"), Only: true}
	return c
}
