// Package lan finds the nodes of one mesh on the local network, and tells
// outsiders nothing.
//
// A [Finder] speaks mDNS on each interface that is up and knows multicast. Those
// who were given the same secret find each other, within a second of the start of
// the later one:
//
//	f, err := lan.New(lan.Config{
//		Group: secret,
//		Self:  id,
//		Addrs: host.Addrs,
//		Found: func(p peer.AddrInfo) { dial(p) },
//	})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer f.Close()
//	...
//	f.Refresh() // when the network changed
//
// Which networks there are is looked up by New and by [Finder.Refresh] only: a
// Finder without an interface waits for one, and does not look for it.
//
// # What is said
//
// All nodes of all meshes offer one service of DNS-SD, _p2pnode._udp, each as an
// instance with a name of 16 random hex digits that is new with each run. Its TXT
// record holds a box: the peer ID and its addresses on that link, encrypted and
// authenticated by a key that is made of the secret, and bound to the name and to
// a time of an hour or so. The box is in the strings a=, b=, c= and so on, in this
// order; see the constants in box.go for its bytes. Who lacks the secret sees that
// a p2pnode is there, at which address it speaks, when it comes and goes, and
// roughly how many addresses it has. He learns neither which peer it is, nor of
// which mesh, nor that two runs are of one peer.
//
// Who takes up a box and shows it elsewhere, within its time, makes others dial
// addresses where the peer is not. So what was found is a hint: whoever dials it
// still has to see that the peer is who it should be, and a member.
//
// # What it costs
//
// A question is asked a few times at first and then about once a minute, by one
// of all the nodes on a link, and those don't answer whom it names as known. A
// node alone wakes up once a minute. Of a crowd of more than 32 about 32 answer
// one question: a newcomer is found by all at once, finds some at once, and the
// rest when it asks again. How much is decrypted, remembered and read has bounds,
// so that a flood costs no more than that; see [Stats].
//
// # What it does not do
//
// It gives no word of who left, though [Finder.Peers] knows. It does not answer
// questions for the SRV and address records that other services of DNS-SD have.
// It sees nobody behind a network that does not pass on multicast, as many of
// guests do not.
package lan
