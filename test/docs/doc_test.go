// Package docs runs what the documents tell their readers to run. A block of ```sh is run as it stands, all those of a
// document one after another in one shell; in a block of ```console what follows a line with "$ " is what that command has
// to print, where … stands for anything.
//
// It runs in a network of its own, so that the ports in the documents are free whatever else this machine does.
package docs
