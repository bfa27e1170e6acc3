package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// hint returns what to do about an error, or nothing.
func hint(err error) string {
	var answered *control.Error
	if errors.As(err, &answered) {
		return hintForCode(answered.Code)
	}
	var inUse *overlay.InUseError
	if errors.As(err, &inUse) {
		return `that node can be used as it is, or ended with "p2pnode down"; for a second node on this machine give another --dir`
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.text
		}
	}
	return ""
}

var hints = []struct {
	err  error
	text string
}{
	{control.ErrNotRunning, `start one with "p2pnode up" or "p2pnode join", or name its directory with --dir`},
	{credential.ErrExpired, `ask an admin of the mesh for a new invite: "p2pnode invite"`},
	{credential.ErrNotYetValid, "set this machine's clock, and ask that the clock of the machine that made the invite be looked at"},
	{credential.ErrNewerInvite, "install a newer p2pnode"},
	{credential.ErrNotInvite, `an invite begins with "p2pnode1"; an admin of the mesh prints one with "p2pnode invite"`},
	{overlay.ErrNoMemberReached, "see that a member of the mesh is up, and can be reached from this machine; --bootstrap names an address the invite does not have"},
	{overlay.ErrOtherMesh, "give another --dir to be in both meshes"},
	{overlay.ErrNotMember, "ask an admin of the mesh for an invite"},
	{overlay.ErrStateCorrupt, "restore the directory from a backup, or move it away and join again with a new invite, as a new member"},
	{overlay.ErrKeyMissing, "restore the key from a backup, or move the directory away and join again with a new invite, as a new member"},
	{p2p.ErrKeyCorrupt, "restore the key from a backup, or move the directory away and join again with a new invite, as a new member"},
	{credential.ErrInvalid, "copy the invite again, whole"},
	{p2p.ErrKeyExposed, "if nobody else can have read it: chmod 600 on that file"},
	{syscall.EADDRINUSE, "choose another port"},
	{syscall.ENOSPC, "make room on the disk; what was stored before is as it was"},
	{syscall.EROFS, fmt.Sprintf("give a --dir that can be written, or set %s", dirVariable)},
	{os.ErrPermission, fmt.Sprintf("give a --dir that you may write, or set %s", dirVariable)},
}

func hintForCode(code control.Code) string {
	switch code {
	case control.CodeUnknownMember:
		return `"p2pnode peers" lists the members`
	case control.CodeAmbiguous:
		return "name one by its peer ID"
	case control.CodeNoService, control.CodeNoProvider:
		return `a service is offered with "p2pnode expose", on the member that has it`
	case control.CodeUnreachable:
		return `"p2pnode peers" shows who is up`
	case control.CodeNotAdmin:
		return "ask the member that founded the mesh, or another admin"
	case control.CodeInUse:
		return "choose another port; port 0 takes a free one"
	case control.CodeExists:
		return `"p2pnode unexpose" withdraws it`
	}
	return ""
}
