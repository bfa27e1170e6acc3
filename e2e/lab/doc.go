// Package lab is networks on one machine, to run programs in: hosts, routers
// with each kind of NAT, and an Internet between them whose links can be slow,
// lossy or broken.
//
// A [Lab] is one Internet. A [Host] is a machine on it or behind a [Router], and
// is where programs are run, by [Host.Command], and sockets made, by [Host.Do]:
//
//	l := lab.New(t)
//	alice := l.Host("alice")
//	home := l.Router("home", lab.NAT{Kind: lab.PortRestricted})
//	bob := home.Host("bob")
//	bob.SetLink(lab.Link{Delay: 25 * time.Millisecond, Loss: 0.01})
//	if err := l.Verify(ctx); err != nil {
//		t.Fatal(err) // the lab is wrong, not what is tested in it
//	}
//	out, err := bob.Command(ctx, "ping", "-c1", alice.Addr().String()).CombinedOutput()
//
// A program that is no test uses [Open] and looks at [Lab.Err].
//
// # What there is
//
// Each machine is a network namespace of Linux, so that addresses, ports and
// connections are its own. Files and processes are not: programs find each other
// there as on one machine. Making namespaces takes root, and the programs nft
// and nsenter. Without these New skips the test and says so, as it does on other
// systems.
//
// The Internet is 5.0.0.0/8 and 2a00:db::/32, of which nobody outside sees
// anything. It joins all that are on it at the speed of the machine, and answers
// for addresses that nobody has. Hosts behind a NAT are in 10.0.0.0/8, or in
// 100.64.0.0/10 if it is a carrier's, in a /24 for each router. Behind a router
// without NAT they are in 45.0.0.0/8, which the Internet finds. Where there is
// IPv6 behind a router it is in 2a01:db::/32.
//
// What happens on the way between a machine and its network is a [Link], which
// can be set and changed at any time. Faults that happen to a machine are methods:
// [Host.Down], [Host.MoveTo], [Host.ChangeAddress], [Router.ChangeAddress],
// [Router.Reboot]. [Lab.Cut] is for what happens between two.
//
// A link's delay is kept within half a millisecond on a machine that has time
// for it, and a link takes up to some hundred Mbit/s, above which it is the
// machine that is measured. Links without delay are the kernel's, and cost less.
// While one of them loses packets, or those that are too long, all cables of the
// lab carry packets one by one, which takes more time than the long segments that
// the kernel likes to make of them.
//
// # What there is not
//
// There is no DNS, and the clock is that of the machine. There is one path
// between two machines, and no queue in the Internet itself. A NAT is what Linux
// makes of it: one that gives ports in sequence, or to each address but not each
// port, can't be had.
package lab
