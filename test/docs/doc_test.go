// Package docs runs what the documents tell their readers to run.
//
//   - A block of ```sh is run as it stands, all those of a document one after another in one shell, in an empty directory.
//   - A block of ```sh terminal is for a terminal of its own: it goes on in the background.
//   - In a block of ```console what follows a line with "$ " is what that command has to print. … stands for anything
//     within a line, and alone in a line for any lines.
//
// What a block needs besides and the document takes for granted (a queue with something in it) is a scene of the test.
// Every block with commands, in any document of the repository, is run or stands in a table here with the reason why not.
//
// Each document has a network of its own, so that the ports in it are free whatever else this machine does.
package docs
