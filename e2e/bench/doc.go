// Command bench measures what it costs to bring bytes from a client's socket to
// a server's on this machine, by each of several ways, in one run:
//
//	go run ./e2e/bench
//	go run ./e2e/bench --quick --only none,splice,p2pnode
//	go run ./e2e/bench --only unix,stream
//	go run ./e2e/bench --apart
//	go run ./e2e/bench --json bench.json
//
// # Ways
//
// Each way has a client and a server of its own, and all that its bytes pass
// through are processes of their own. What differs is what lies between:
//
//   - none: nothing; the client dials the server.
//   - unix: nothing; client and server hold unix sockets in place of TCP.
//   - stream: nothing; client and server are nodes of one mesh, and a connection
//     is a stream that one dials and the other accepts, by the library.
//   - splice: one proxy, through which the kernel splices.
//   - tls: two proxies with TLS 1.3 (AES-GCM) between them, a connection a
//     stream, a full handshake each.
//   - ssh: ssh -L with AES-GCM, to an sshd that this program starts as the
//     present user, with a host key and a client key made for the run.
//   - libp2p: two plain go-libp2p hosts with TCP, TLS and yamux: what an
//     ordinary program gets.
//   - p2pnode: a forward of this project between two nodes, run by the command
//     as built from the present tree.
//   - p2pnode-lan: the same, where the nodes do without the path on this machine.
//
// With --apart the client and the server, each with the processes beside it, are in
// network namespaces of their own, which a laboratory of package lab joins, so that
// no byte goes by loopback alone. The ways on one machine are skipped.
//
// A way that can't be had on this machine is skipped, and the table says why.
// A way is one file that holds a type with two methods, see [way], and an entry
// in the list in way.go.
//
// # Rounds
//
// All ways are brought up first, and a byte is sent through each. Then, in each
// round, every way is measured once in turn, so that a machine that gets slower
// or faster meanwhile does so for all. The table shows medians over the rounds.
// Speeds differ between machines and hours; a ratio of two ways within one
// round is steadier. The second part of the table shows, for each way, the
// median over the rounds of its ratio to unix, to splice, to tls, to ssh and to libp2p:
// a forward is to be compared with splice, and stream with unix. The JSON file has
// every round.
//
// For the ways of this project the table shows by which path their streams went,
// "unix" or "lan", or "direct" between namespaces. It is asked for after each round. Several mean that it changed.
//
// # Figures
//
//   - Gbit/s: one connection, bytes one way, from the first write until the
//     server's count of what it got has come back. It ends at --bulk-bytes or
//     after --bulk-time, whichever is first. A count that differs from what
//     was sent ends the way with an error.
//   - CPU-s/GiB: user and system seconds in that time, per GiB, of all processes
//     of the way: client, server, all between, and all they started. It comes
//     from /proc/PID/stat, which counts in steps of 10 ms a process, and is
//     missing where there is no /proc.
//   - RTT p50 and p99: 64 bytes there and back on an open connection, in
//     microseconds, --trips times or for --time. What comes back must be what
//     was sent.
//   - open p50: connect, or dial a stream, and one byte there and back, one at a
//     time, in microseconds.
//   - conn/s: connect, one byte there and back, close; --conns times or for
//     --time, one at a time and then 64 at once.
//
// # Congestion control
//
// The kernel's default may be BBR, which paces and so halves TCP on loopback.
// Sockets of other programs can't be told from here, so as root on Linux this
// program sets the kernel's default to CUBIC for the run, and restores it at
// the end, on an interrupt and on a fault too. Elsewhere the default stays. The
// table says which was used.
//
// # Exit
//
// The exit code is 0 when at least one way was measured, however slow; 1 when
// none was, when interrupted or when the JSON file can't be written; 2 when the
// flags are wrong. All that was started is stopped and removed in each case;
// only a signal that can't be caught leaves CUBIC set, and ssh or nodes running.
package main
