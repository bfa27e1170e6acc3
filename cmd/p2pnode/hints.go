package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"syscall"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/p2p"
)

// advise tells what kind of failure an error is, and what to do about it, where
// something is known to help.
func advise(err error) (control.Code, string) {
	var answered *control.Error
	if errors.As(err, &answered) {
		return answered.Code, hintsByCode[answered.Code]
	}
	var usage usageError
	if errors.As(err, &usage) {
		return control.CodeBadRequest, ""
	}
	var config configError
	if errors.As(err, &config) {
		return control.CodeBadConfig, ""
	}
	var inUse *overlay.InUseError
	if errors.As(err, &inUse) {
		return control.CodeDirInUse, otherDir
	}
	var proxy *p2p.ProxyError
	if errors.As(err, &proxy) && proxy.Status == http.StatusProxyAuthRequired {
		return control.CodeAlone, proxyPassword
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.code, h.text
		}
	}
	return control.CodeOther, ""
}

const otherDir = `that node can be used as it is, or ended with "p2pnode down"; for a second node on this machine give another --dir`

const brokeOff = `what has arrived is not all of it; "p2pnode status", on the member that has the service, may say why`

const asNewMember = `an admin of the mesh can make a new invite ("p2pnode invite"); join with it and another --dir, as a new member`

const anotherInvite = `ask an admin of the mesh for another ("p2pnode invite")`

const adminUp = "try again once an admin of the mesh is up and can be reached from the others"

const fromBackup = "restore it from a backup; or move the directory away and join again with a new invite, as a new member"

const usableLocalDir = `name with --local-dir one that you have made with "mkdir -m 700", or "mkdir -m 1777" for other users too; or leave the --local flags out`

const proxyPassword = "the proxy wants a user and a password, or others: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"

const whyRelay = `"p2pnode why MEMBER" tells why, and what helps`

var writableDir = fmt.Sprintf("give a --dir that you can write, or set %s", dirVariable)

// hints are tried in order: the first error that err is decides.
var hints = []struct {
	err  error
	code control.Code
	text string
}{
	{control.ErrNotRunning, control.CodeNotRunning, `start one with "p2pnode up" or "p2pnode join", or name its directory with --dir`},
	{control.ErrRunning, control.CodeDirInUse, otherDir},
	{control.ErrBroken, control.CodeBroken, brokeOff},
	{errInterrupted, control.CodeInterrupted, ""},
	{overlay.ErrStateCorrupt, control.CodeCorrupt, fromBackup},
	{overlay.ErrKeyMissing, control.CodeCorrupt, fromBackup},
	{p2p.ErrKeyCorrupt, control.CodeCorrupt, fromBackup},
	{p2p.ErrKeyExposed, control.CodeKeyExposed, "if nobody else can have read it: chmod 600 on that file"},
	{overlay.ErrNameFixed, control.CodeNameFixed, "leave --name out; or give another --dir, and join from there"},
	{overlay.ErrOtherMesh, control.CodeOtherMesh, "give another --dir to be in both meshes"},
	{credential.ErrRevoked, control.CodeRevoked, asNewMember},
	{overlay.ErrInviteUsed, control.CodeInviteUsed, anotherInvite},
	{overlay.ErrNoAdmin, control.CodeNoAdmin, adminUp},
	{credential.ErrUnredeemed, control.CodeNoAdmin, adminUp},
	{credential.ErrExpired, control.CodeExpired, `ask an admin of the mesh for a new invite ("p2pnode invite"), and join with it`},
	{credential.ErrNotYetValid, control.CodeBadClock, "set this machine's clock, or have that of the machine set that made the invite"},
	{credential.ErrWrongMesh, control.CodeBadInvite, "ask an admin of the mesh for an invite"},
	{credential.ErrNewerInvite, control.CodeBadInvite, "install a newer p2pnode"},
	{credential.ErrNotInvite, control.CodeBadInvite, `an invite begins with "p2pnode1"; an admin of the mesh prints one with "p2pnode invite"`},
	{credential.ErrMistyped, control.CodeBadInvite, "copy the invite again, whole"},
	{credential.ErrInvalid, control.CodeBadInvite, "copy the invite again, whole; or ask an admin of the mesh for a new one"},
	{overlay.ErrNotMember, control.CodeNotMember, "ask an admin of the mesh for an invite"},
	{overlay.ErrNoMemberReached, control.CodeAlone, "see that a member is up and can be reached from here; --bootstrap names an address that the invite does not have"},
	{p2p.ErrNoLocal, control.CodeNoLocal, usableLocalDir},
	{p2p.ErrOnlyRelay, control.CodeOnlyRelay, whyRelay},
	{forward.ErrNotMesh, control.CodeNotMesh, "leave --others=false out to reach other hosts too"},
	{errNoLog, control.CodeNotFound, `only a node that was started with "p2pnode up --background" has one; under systemd: journalctl -u p2pnode`},
	{errNotYet, control.CodeNotYet, ""},
	{syscall.EADDRINUSE, control.CodeInUse, "choose another port"},
	{syscall.EADDRNOTAVAIL, control.CodeNoAddress, "choose an address that this machine has"},
	{syscall.ENOSPC, control.CodeDiskFull, "make room on the disk; what was stored before is as it was"},
	{syscall.ENOTDIR, control.CodeBadDir, writableDir},
	{syscall.EROFS, control.CodeBadDir, writableDir},
	{os.ErrPermission, control.CodeBadDir, writableDir},
}

// hintFor returns the hint for what a node answers, or "".
func hintFor(code control.Code) string { return hintsByCode[code] }

// hintsByCode are for what a node answers.
var hintsByCode = map[control.Code]string{
	control.CodeUnknownMember: `"p2pnode peers" lists the members`,
	control.CodeAmbiguous:     "name one by its peer ID",
	control.CodeNoService:     `a service is offered with "p2pnode expose", on the member that has it`,
	control.CodeNoProvider:    `a service is offered with "p2pnode expose", on a member that has it`,
	control.CodeBroken:        brokeOff,
	control.CodeUnreachable:   `"p2pnode peers" shows who is up, "p2pnode why MEMBER" what was tried`,
	control.CodeOnlyRelay:     whyRelay,
	control.CodeBusy:          "try again in a moment",
	control.CodeNotPermitted:  `the member that has the service can let you use it with "p2pnode allow"; an invite may restrict you to others`,
	control.CodeNotMember:     "one of the two nodes is not, or no longer, in the mesh; an admin can tell which with \"p2pnode whois\"",
	control.CodeRevoked:       asNewMember,
	control.CodeExpired:       asNewMember,
	control.CodeBadClock:      "set the clock of this machine, or that of the other",
	control.CodeOtherMesh:     "that node is in another mesh; join that one from another --dir",
	control.CodeInviteUsed:    anotherInvite,
	control.CodeNoAdmin:       adminUp,
	control.CodeUnknownInvite: `"p2pnode invite list", on the admin that made it, lists the invites`,
	control.CodeNotAdmin:      "ask the member that founded the mesh, or another admin",
	control.CodeInUse:         "choose another port; port 0 takes a free one",
	control.CodeNoAddress:     "choose an address that this machine has",
	control.CodeExists:        `"p2pnode unexpose" withdraws it`,
	control.CodeNotFound:      `"p2pnode status" lists what this node exposes and forwards`,
	control.CodeNotMesh:       `a service has the name SERVICE.MEMBER.mesh, or SERVICE.mesh for the nearest; "p2pnode proxy --others" makes a proxy for other hosts too`,
	control.CodeNoConfig:      `one is given with "p2pnode up --config"`,
	control.CodeBadConfig:     `"p2pnode config check" reads it without a node`,
	control.CodeFromConfig:    `change it there, and "p2pnode reload"`,
	control.CodeDenied:        "choose a port above 1023, or a path that you can write",
}
