// Package lan finds the nodes of one mesh on the local network, by mDNS.
package lan
