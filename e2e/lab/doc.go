// Package lab is networks on one machine, to test programs in: hosts, routers
// with each kind of NAT, and an Internet between them whose links can be slow,
// lossy or broken.
package lab
