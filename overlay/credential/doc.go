// Package credential says who belongs to a mesh.
//
// A mesh is a root key; its [MeshID] is that key's public half. Whoever the root
// or an admin has given a [Credential] is a member: a signed statement that this
// key has this name and these roles, until then. Whoever wants to join gets an
// [Invite], a text that lets its holder give one node a credential, with no
// admin there to ask.
//
//	root, err := credential.NewRoot(rand.Reader)
//	...
//	own, err := root.Found(rand.Reader, time.Now(), publicKey, "alice")
//	...
//	admin, err := credential.NewIssuer(root.Mesh(), privateKey, own)
//	...
//	invite, err := admin.IssueInvite(rand.Reader, time.Now(), credential.Terms{Name: "bob"}, start)
//	...
//	fmt.Println(invite.Text()) // a secret: it is as good as the membership it gives
//
// and at the other end
//
//	invite, err := credential.ParseInvite(text)
//	...
//	own, err := invite.IssueNode(rand.Reader, time.Now(), publicKey, "")
//
// A credential is proof only together with the key it names: [Credential.Verify]
// says which peer ID it is about, and the caller must see that this is the peer
// at the other end of the connection.
//
// # Chains
//
// What the root, an admin or an invite signs is a grant. A credential is a chain
// of them, from the member's own up to one that the root signed, so that anybody
// who knows the mesh ID can check it without asking anyone. No grant gives more
// than the one above it may: in roles, in time, in name. Issuing a credential
// ends in verifying it, so what cannot be verified cannot be issued.
//
// A chain has at most [MaxGrants]. A member who joined by an invite and became
// an admin stands low in the chain; renewed by an admin above, it stands higher
// and can invite again.
//
// # Errors
//
// Callers branch on [ErrInvalid], [ErrWrongMesh], [ErrNotAllowed],
// [ErrNotYetValid] and [ErrExpired], and for an invite's text also on
// [ErrNotInvite] and [ErrNewerInvite]. The text of each error says what was
// looked at and why it was refused. No error, and no way of printing, shows a
// secret.
//
// The package does no I/O, keeps no clock and starts no goroutine. Its values
// never change once made, so they may be used by several goroutines at once. The
// encoding is written down byte for byte in docs/protocol.md.
//
// It does not know what has been revoked, nor whether a name is taken: that is
// for the mesh to say.
package credential
