// Package netwatch tells when the networks of this machine changed: a cable
// was pulled, a Wi-Fi joined, a VPN came up, the machine woke from sleep.
//
// A [Watcher] knows the present [State] and yields each one that differs:
//
//	w, err := netwatch.New()
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer w.Close()
//	for state := range w.Watch(ctx) { // first the present one
//		fmt.Println(state.Interfaces, state.Defaults)
//	}
//
// A State is what makes a difference to who can be reached, and no more:
// interfaces that are up and have an address that can be used, and the default
// routes. The port of a bridge, as containers get by the dozen, is not in it, nor
// is how long an address lives. What comes in a burst is one change: it is told a
// tenth of a second after the last event, and half a second after the first at
// the latest. Who watches slowly sees the newest state and not all of them.
//
// # Where it is told by events
//
// On Linux the kernel tells of changes, and of sleep, and a Watcher does nothing
// in between. Elsewhere, and where a sandbox forbids the socket that it takes, it
// looks every 5 seconds, and has of the default routes only the best of each
// family, without its gateway. [Watcher.Events] says which it is.
//
// A Watcher on Linux stays with the network namespace in which it was made.
package netwatch
