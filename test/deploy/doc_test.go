// Package deploy checks what is in deploy: that the alerts and the dashboard ask for metrics that there are, that
// the unit, the image and the manifests run the real server. It knows the server from outside only.
package deploy
