package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// Each failure has a code for programs, and for people what to do next.
func TestAdvise(t *testing.T) {
	pathError := func(err error) error { return &fs.PathError{Op: "open", Path: "/d/state.db", Err: err} }
	answered := func(code control.Code) error { return &control.Error{Code: code, Text: "as the node says"} }
	for _, tt := range []struct {
		err  error
		code control.Code
		hint string // substring; empty means none
	}{
		// of what a command finds by itself
		{control.ErrNotRunning, "not-running", `start one with "p2pnode up" or "p2pnode join", or name its directory with --dir`},
		{&overlay.InUseError{Dir: "/d", Name: "alice", PID: 7}, "directory-in-use", "give another --dir"},
		{control.ErrRunning, "directory-in-use", "give another --dir"},
		{errInterrupted, "interrupted", ""},
		{usagef("--listen %q: not an address", "x"), "bad-request", ""},
		{usagef("no file: %w", fs.ErrNotExist), "bad-request", ""},
		{control.ErrBroken, "stream-broke", `may say why`},
		{fmt.Errorf("%w: it is empty", overlay.ErrStateCorrupt), "corrupt", "restore it from a backup"},
		{fmt.Errorf("%w: %w", overlay.ErrStateCorrupt, credential.ErrInvalid), "corrupt", "restore it from a backup"},
		{overlay.ErrKeyMissing, "corrupt", "restore it from a backup"},
		{p2p.ErrKeyCorrupt, "corrupt", "restore it from a backup"},
		{p2p.ErrKeyExposed, "key-exposed", "chmod 600"},
		{overlay.ErrNameFixed, "name-fixed", "leave --name out"},
		{overlay.ErrOtherMesh, "other-mesh", "another --dir"},
		{overlay.ErrNotMember, "not-a-member", "ask an admin of the mesh for an invite"},
		{overlay.ErrNoMemberReached, "no-member-reached", "see that a member is up"},
		{errors.Join(overlay.ErrNoMemberReached, &p2p.ProxyError{Status: 407, Err: io.EOF}), "no-member-reached", "USER:PASSWORD@"},
		{errors.Join(overlay.ErrNoMemberReached, &p2p.ProxyError{Status: 403, Err: io.EOF}), "no-member-reached", "see that a member is up"},
		{credential.ErrExpired, "expired", "for a new invite"},
		{credential.ErrRevoked, "revoked", "another --dir, as a new member"},
		{fmt.Errorf("no member reached: %w", errors.Join(overlay.ErrNoMemberReached, overlay.ErrInviteUsed)), "invite-used", "ask an admin of the mesh for another"},
		{errors.Join(overlay.ErrNoMemberReached, overlay.ErrNoAdmin), "no-admin", "once an admin of the mesh is up"},
		{credential.ErrUnredeemed, "no-admin", "once an admin of the mesh is up"},
		{fmt.Errorf("%w: %w", control.ErrBroken, answered(control.CodeNotPermitted)), "not-permitted", `"p2pnode allow"`},
		{credential.ErrNotYetValid, "not-yet-valid", "clock"},
		{credential.ErrWrongMesh, "bad-invite", "ask an admin"},
		{credential.ErrNewerInvite, "bad-invite", "newer p2pnode"},
		{credential.ErrNotInvite, "bad-invite", `begins with "p2pnode1"`},
		{fmt.Errorf("%w, %w", credential.ErrInvalid, credential.ErrMistyped), "bad-invite", "copy the invite again, whole"},
		{credential.ErrInvalid, "bad-invite", "ask an admin of the mesh for a new one"},
		{fmt.Errorf("%w: %w", p2p.ErrNoLocal, pathError(syscall.EACCES)), "bad-local-directory", "name with --local-dir"},
		{p2p.ErrOnlyRelay, "only-relay", `"p2pnode why MEMBER" tells why`},
		{syscall.EADDRINUSE, "address-in-use", "choose another port"},
		{syscall.EADDRNOTAVAIL, "no-such-address", "an address that this machine has"},
		{pathError(syscall.ENOSPC), "disk-full", "make room on the disk"},
		{pathError(syscall.ENOTDIR), "bad-directory", "P2PNODE_DIR"},
		{pathError(syscall.EROFS), "bad-directory", "P2PNODE_DIR"},
		{pathError(syscall.EACCES), "bad-directory", "P2PNODE_DIR"},
		{io.ErrNoProgress, "failed", ""},

		// of what a node answers
		{answered(control.CodeUnknownMember), "unknown-member", `"p2pnode peers" lists the members`},
		{answered(control.CodeAmbiguous), "ambiguous-name", "name one by its peer ID"},
		{answered(control.CodeNoService), "no-such-service", `"p2pnode expose"`},
		{answered(control.CodeNoProvider), "no-provider", `"p2pnode expose"`},
		{answered(control.CodeUnreachable), "unreachable", `"p2pnode peers" shows who is up`},
		{answered(control.CodeOnlyRelay), "only-relay", `"p2pnode why MEMBER" tells why`},
		{answered(control.CodeBroken), "stream-broke", `may say why`},
		{answered(control.CodeBusy), "too-busy", "try again"},
		{answered(control.CodeNotAdmin), "not-admin", "another admin"},
		{answered(control.CodeInUse), "address-in-use", "port 0 takes a free one"},
		{answered(control.CodeNoAddress), "no-such-address", "an address that this machine has"},
		{answered(control.CodeExists), "exists", `"p2pnode unexpose" withdraws it`},
		{answered(control.CodeNotFound), "not-found", `"p2pnode status" lists`},
		{answered(control.CodeDenied), "access-denied", "a port above 1023"},
		{answered(control.CodeBadRequest), "bad-request", ""},
		{answered(control.CodeNotPermitted), "not-permitted", `"p2pnode allow"`},
		{answered(control.CodeNotMember), "not-a-member", `"p2pnode whois"`},
		{answered(control.CodeRevoked), "revoked", "as a new member"},
		{answered(control.CodeExpired), "expired", "new invite"},
		{answered(control.CodeBadClock), "not-yet-valid", "clock"},
		{answered(control.CodeOtherMesh), "other-mesh", "another --dir"},
		{answered(control.CodeInviteUsed), "invite-used", "ask an admin"},
		{answered(control.CodeNoAdmin), "no-admin", "once an admin"},
		{answered(control.CodeUnknownInvite), "unknown-invite", `"p2pnode invite list"`},
		{answered(control.CodeOther), "failed", ""},
	} {
		code, hint := advise(fmt.Errorf("what was tried: %w", tt.err))
		if code != tt.code || !strings.Contains(hint, tt.hint) || (hint == "") != (tt.hint == "") {
			t.Errorf("advise(%v) = %s, %q, want %s, %q", tt.err, code, hint, tt.code, tt.hint)
		}
	}
}

// Of a failure with several causes the one decides that is first in the table,
// whatever the order in which they are wrapped.
func TestAdviseOfTwoCauses(t *testing.T) {
	corrupt := fmt.Errorf("%w: %w", credential.ErrInvalid, overlay.ErrStateCorrupt)
	refused := errors.Join(overlay.ErrNoMemberReached, credential.ErrExpired)
	for err, want := range map[error]control.Code{corrupt: control.CodeCorrupt, refused: control.CodeExpired} {
		if code, _ := advise(err); code != want {
			t.Errorf("advise(%v) = %s, want %s", err, code, want)
		}
	}
}
