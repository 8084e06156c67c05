package main

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/gmq/gmq/internal/certs"
)

func newDevCert() *cobra.Command {
	var dir, client string
	var hosts []string
	cmd := &cobra.Command{
		Use:   "dev-cert",
		Short: "Make certificates for trying TLS",
		Long: `Dev-cert makes a private authority, a certificate for a server and one for a client, writes them
into a directory, and prints the lines of configuration and the commands that use them. It
overwrites nothing. The authority is good for five years, the certificates for one.

Whoever has ca-key.pem can make certificates that your clients believe: it is for trying. In earnest,
get the server's certificate where you get your others.`,
		Example: `  gmq dev-cert
  gmq dev-cert --dir /etc/gmq/tls --host queue.example.org,10.0.0.7 --client ann`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, h := range hosts {
				if !certs.ValidHost(h) {
					return usage("--host: %q is neither a name of a host nor an IP address", h)
				}
			}
			if !certs.ValidHost(client) {
				return usage("--client: %q is no name that a certificate can have: want one like that of a host", client)
			}
			return devCert(cmd.OutOrStdout(), dir, hosts, client)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "gmq-certs", "`directory` for the files; made if it is not there")
	cmd.Flags().StringSliceVar(&hosts, "host", []string{"localhost", "127.0.0.1", "::1"}, "names and IP addresses under which clients reach the server")
	cmd.Flags().StringVar(&client, "client", "client", "`name` of the client")
	complete(cmd, "host")
	complete(cmd, "client")
	_ = cmd.MarkFlagDirname("dir") // it fails only where there is no such flag
	return cmd
}

func devCert(w io.Writer, dir string, hosts []string, client string) error {
	t, err := certs.MakeTrial(time.Now(), hosts, client)
	if err != nil {
		return err
	}
	if _, err := t.Write(dir); err != nil {
		return err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	at := func(name string) string { return filepath.Join(abs, name) }
	host := hosts[0]
	if i := slices.Index(hosts, "localhost"); i >= 0 {
		host = hosts[i]
	}
	addr := net.JoinHostPort(host, defaultPort)
	_, err = fmt.Fprintf(w, `# In %s: ca.pem, server.pem, client.pem, and their keys (keep the keys to yourself).
# The configuration, for gmq serve --config FILE:

tls:
  cert: %s
  key: %s
  client_ca: %s    # verifies certificates of clients; client_cert: required demands them
  required: true

# To try it:
#   gmq ping --server %s --ca %s
#   gmq ping --server %s --ca %s --cert %s --cert-key %s
#   openssl s_client -quiet -connect %s -CAfile %s
# Where auth.required is on, the client's certificate logs in the user of its name, who must be there:
#   gmq user add %s --no-password --allow 'publish:orders.*'
`, abs, at("server.pem"), at("server-key.pem"), at("ca.pem"),
		addr, at("ca.pem"), addr, at("ca.pem"), at("client.pem"), at("client-key.pem"), addr, at("ca.pem"), client)
	return err
}
