package credential_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
)

// Alice founds a mesh and invites; Bob joins by the text alone.
func Example() {
	now := time.Now()

	// Alice, once.
	aliceKey, alicePrivate, _ := ed25519.GenerateKey(nil)
	root, err := credential.NewRoot(rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	alice, err := root.Found(rand.Reader, now, aliceKey, "alice")
	if err != nil {
		fmt.Println(err)
		return
	}

	// Alice, whenever she invites somebody.
	admin, err := credential.NewIssuer(root.Mesh(), alicePrivate, alice)
	if err != nil {
		fmt.Println(err)
		return
	}
	invite, err := admin.IssueInvite(rand.Reader, now, credential.Terms{Name: "bob"}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	text := invite.Text()

	// Bob, who got the text.
	invite, err = credential.ParseInvite(text)
	if err != nil {
		fmt.Println(err)
		return
	}
	bobKey, _, _ := ed25519.GenerateKey(nil)
	bob, err := invite.IssueNode(rand.Reader, now, bobKey, "")
	if err != nil {
		fmt.Println(err)
		return
	}

	// Anyone in the mesh, to whom Bob shows his credential.
	member, err := credential.Verify(bob.Marshal(), root.Mesh(), now)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(member.Name, member.Roles, member.NotAfter.Sub(member.NotBefore))
	// Output: bob member,relay 24h0m0s
}

func ExampleParseInvite() {
	for _, text := range []string{"hello", "p2pnode9mfrgg", "p2pnode1ae"} {
		_, err := credential.ParseInvite(text)
		fmt.Println(err)
	}
	// Output:
	// parse invite: not an invite: it does not start with "p2pnode1"
	// parse invite: invite of a newer version: version 9; this program knows version 1
	// parse invite: invalid, damaged in copying: cut off: 10 characters, which is only its beginning
}

func ExampleCredential_Verify() {
	start := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	node, _, _ := ed25519.GenerateKey(nil)
	root, err := credential.NewRoot(rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := root.Found(rand.Reader, start, node, "alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Verify(root.Mesh(), start.Add(-time.Hour))
	fmt.Println(errors.Is(err, credential.ErrNotYetValid))
	fmt.Println(err)
	// Output:
	// true
	// verify credential of "alice": not yet valid: starts 2026-01-02T00:00:00Z, but here it is 2026-01-01T23:00:00Z, 1h0m0s earlier; a clock is wrong, this machine's or the issuer's
}

func ExampleParseRoles() {
	roles, err := credential.ParseRoles("relay, member")
	fmt.Println(roles, roles.Has(credential.RoleAdmin), err)
	// Output: member,relay false <nil>
}
