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
// # Counted invites
//
// An invite can't know how often it was used, and whoever has its key can sign as
// many credentials as it likes. If its [Terms] say how many nodes it admits, what
// it gives is good for one thing alone: an admin, who counts, looks at it with
// [Credential.Redeem] and gives another for it with [Issuer.Renew]. Until then it
// is [ErrUnredeemed], and neither gives nor revokes anything.
//
// # Revocations
//
// A [Revocation] puts a member or an invite out for good. Of an admin it voids all
// that the key ever signed, since a key that somebody else may have can sign with
// any date, but for what the revocation keeps. Admins revoke those who are not
// nearer to the root than themselves, and any member can revoke its own key, which
// is to leave.
//
// [Revocations] is a set of them that only grows. Who is out is a function of the
// set: not of the order in which it came to be, nor of the time. So nodes that
// exchange what they have end up of one mind, and nothing old that is shown again
// brings anybody back. What an admin revoked does not count once somebody nearer to
// the root has revoked that admin, unless that is kept too.
//
// A renewed credential says how its member came in, and on whose word, so that an
// admin's revocation finds those that it admitted whoever renewed them since.
//
// An admin whose credential has expired can still make revocations, with an earlier
// date. One that is to be an admin no longer is to be revoked.
//
// # Errors
//
// Callers branch on [ErrInvalid], [ErrWrongMesh], [ErrNotAllowed],
// [ErrNotYetValid], [ErrExpired], [ErrUnredeemed] and [ErrRevoked], and for an
// invite's text also on [ErrNotInvite] and [ErrNewerInvite]. The text of each error says what was
// looked at and why it was refused. No error, and no way of printing, shows a
// secret.
//
// The package does no I/O, keeps no clock and starts no goroutine. Its values, but
// for Revocations, never change once made, so they may be used by several goroutines
// at once. The
// encoding is written down byte for byte in docs/protocol.md.
//
// It does not know which revocations there are, how often an invite was used, nor
// whether a name is taken: that is for the mesh to say.
package credential
