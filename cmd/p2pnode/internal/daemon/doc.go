// Package daemon is a running node behind the p2pnode command: a mesh, the
// services it exposes and the forwards it keeps, driven over the control
// socket.
package daemon
