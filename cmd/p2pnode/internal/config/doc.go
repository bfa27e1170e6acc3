// Package config reads and writes the file that says what a node is to expose and
// forward, and where to be a proxy:
//
//	[node]
//	name = "alice"
//
//	[[expose]]
//	service = "web"
//	target = "3000"
//	allow = ["bob", "role:admin"]
//
//	[[forward]]
//	listen = "5432"
//	target = "bob/db"
//
//	[[proxy]]
//	listen = "1080"
//
// It is TOML. Keys are called as the flags of the commands are; those of [node] are
// the flags of "p2pnode up". What is wrong in a file is told all at once, each with its line
// and what would be right.
package config
