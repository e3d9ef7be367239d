/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <limits.h>
#include <string.h>

#define ANY UINT_MAX

const struct cli_command cli_commands[] = {
    { "obtain", CLI_OBTAIN, cli_run_obtain, 1, ANY, "NAME...", "get certificates into storage",
      "Gets a certificate for each NAME and stores it, unless storage already holds a\n"
      "valid one. certmesh opens the HTTP and TLS ports itself to answer the CA, or\n"
      "lets any process on the same storage answer that has them open.",
      "  certmesh obtain --agree --email ops@example.com example.com www.example.com\n"
      "  certmesh obtain --agree --san example.com www.example.com\n"
      "  certmesh obtain --internal --root ./store app.test" },
    { "renew", CLI_RENEW, cli_run_renew, 0, ANY, "[NAME...]", "renew what is due, or --force it",
      "Renews the stored certificate of each NAME when it is due. Without a NAME:\n"
      "every certificate of this CA in storage. For a timer; `certmesh serve` renews\n"
      "what it serves by itself.",
      "  certmesh renew\n"
      "  certmesh renew --force example.com" },
    { "revoke", CLI_REVOKE, cli_run_revoke, 1, ANY, "NAME...", "revoke at the CA, then remove",
      "Revokes the stored certificate of each NAME at the CA that issued it, then\n"
      "removes it from storage unless --keep. Asks first; without a terminal it needs\n"
      "--yes.",
      "  certmesh revoke --reason superseded old.example.com\n"
      "  certmesh revoke --reason keyCompromise --yes example.com" },
    { "list", CLI_LIST, cli_run_list, 0, ANY, "[NAME...]", "table of the stored certificates",
      "Lists every certificate in storage, of whatever CA; with a NAME only its own.\n"
      "An entry that cannot be read is shown with the reason.",
      "  certmesh list\n"
      "  certmesh list --json --storage file:/var/lib/certmesh" },
    { "show", CLI_SHOW, cli_run_show, 1, 1, "NAME", "one certificate in detail",
      "Shows the stored certificates of NAME and where they lie in storage. The\n"
      "private key is never printed.",
      "  certmesh show example.com\n"
      "  certmesh show --pem example.com > chain.pem" },
    { "status", CLI_STATUS, cli_run_status, 0, ANY, "[NAME...]", "how each name is doing",
      "Shows the state of each NAME, or of every name that storage knows of: until when\n"
      "its certificate is valid, what happens next and when, how many attempts failed\n"
      "and why, its staple. Asks no CA and changes nothing. Exit code 1 when somebody\n"
      "should look at one: failing, expired, revoked, damaged or missing.",
      "  certmesh status\n"
      "  certmesh status --problems --json" },
    { "why", CLI_WHY, cli_run_why, 1, 1, "NAME", "why a certificate is renewed when it is",
      "Tells the rules for NAME one after the other: what storage holds, what its CA\n"
      "suggests, when it is to be renewed, what failed, who works on it just now, and\n"
      "what follows.",
      "  certmesh why www.example.com" },
    { "fleet", CLI_FLEET, cli_run_fleet, 0, 0, "", "the machines that serve from this storage",
      "Shows every machine that serves from this storage: since when, when it was heard of\n"
      "last, how many names it has, and which of them lag: a newer certificate is in\n"
      "storage, or others serve the name and it does not. Exit code 1 when one lags or is\n"
      "gone. What machines say is up to a minute old.",
      "  certmesh fleet\n"
      "  certmesh fleet --names --json" },
    { "serve", CLI_SERVE, cli_run_serve, 1, ANY, "NAME...", "serve HTTPS for the names",
      "Serves HTTPS for each NAME and redirects plain HTTP to it. Certificates come\n"
      "from storage or are obtained on the way; handshakes wait for them. They are\n"
      "renewed and stapled as it goes, and replaced when they are revoked; the\n"
      "storage is cleaned once a day. Runs in the foreground, tells systemd when it is\n"
      "ready, ends on SIGTERM or Ctrl-C.",
      "  certmesh serve --agree --email ops@example.com --dir /srv/www example.com\n"
      "  certmesh serve --agree --fallback-ca https://acme.zerossl.com/v2/DV90 \\\n"
      "      --email ops@example.com example.com\n"
      "  certmesh serve --agree --on-demand --ask http://127.0.0.1:9000/allowed\n"
      "  certmesh serve --internal --root ./store localhost\n"
      "  certmesh serve --internal --tls-port 8443 --no-http localhost" },
    { "clean", CLI_CLEAN, cli_run_clean, 0, 0, "", "remove expired things from storage",
      "Removes certificates that expired longer ago than the grace period, with their\n"
      "keys, expired staples, and what crashed processes left behind; with --dns in\n"
      "DNS, too. What still serves is never touched. When the clock of this machine\n"
      "seems to be wrong, nothing is removed without --force.",
      "  certmesh clean --dry-run\n"
      "  certmesh clean --if-older 24h --grace 30d" },
    { "storage", CLI_STORE, cli_run_storage, 0, 3, "WORD [ARGUMENT...]",
      "look into, move and check a storage",
      "ls [-r] [PREFIX]     the keys below PREFIX\n"
      "stat KEY             size and time of a value\n"
      "get KEY [-o FILE]    the value\n"
      "put KEY [FILE|-]     store what is in FILE, or on standard input\n"
      "rm [-r] KEY          remove a value, or everything below KEY\n"
      "export [FILE|-]      everything as a tar archive, private keys included\n"
      "import [FILE|-]      store what is in such an archive, or in the cache of Go's\n"
      "                     autocert (--autocert)\n"
      "copy                 from one storage into another (--from, --to); once more to\n"
      "                     go on where it ended\n"
      "migrate              the same again and again until both are equal\n"
      "check [URL]          find what is damaged, half there or left over (--repair)\n"
      "reseal               store all values of a sealed storage under its first key",
      "  certmesh storage ls -r certificates\n"
      "  certmesh storage export backup.tar\n"
      "  certmesh storage copy --from file:/var/lib/certmesh --to file:/mnt/new" },
    { "account", CLI_ACCOUNT, cli_run_account, 0, 1, "[show|register|update|rollover|deactivate]",
      "the ACME account",
      "show        what storage and the CA know; registers nothing (default)\n"
      "register    make sure there is an account\n"
      "update      set its contact to --email\n"
      "rollover    give it another key; what an interrupted one has left is finished\n"
      "deactivate  give it up, for good",
      "  certmesh account\n"
      "  certmesh account register --agree --email ops@example.com\n"
      "  certmesh account register --agree --ca https://ca.example/dir \\\n"
      "      --eab-kid kid-1 --eab-key-file /etc/certmesh/eab.key" },
    { "dns", CLI_DNS, cli_run_dns, 2, ANY, "persist NAME...", "records to be set in DNS by hand",
      "persist     the TXT record for each NAME that lets this account at this CA have\n"
      "            certificates for it by --challenge dns-persist-01, from then on and\n"
      "            without a change in DNS. It has to be set by hand, once; --verify\n"
      "            tells whether that was done.",
      "  certmesh dns persist --wildcard example.com\n"
      "  certmesh dns persist --wildcard --verify example.com\n"
      "  certmesh obtain --challenge dns-persist-01 '*.example.com'" },
    { "cas", CLI_CAS, cli_run_cas, 0, 0, "", "what is known of public CAs",
      "Lists the public CAs that certmesh knows something of: the directory for --ca,\n"
      "whether an account has to be bound to one at the CA (--eab-kid), which names it\n"
      "certifies, what it limits. Asks nobody. Any other ACME CA works, too.",
      "  certmesh cas\n"
      "  certmesh cas --json" },
    { "trust", CLI_TRUST, cli_run_trust, 0, 0, "", "print the root of the local CA",
      "Prints the root certificate of certmesh's own CA in this storage (made now if\n"
      "there is none yet) and says how to make a machine trust it. Nothing is\n"
      "installed.",
      "  certmesh trust --out certmesh-root.crt\n"
      "  curl --cacert certmesh-root.crt https://localhost/" },
    { "version", CLI_VERSION, cli_run_version, 0, 0, "", "versions", "Prints versions.",
      "  certmesh version --json" },
    { "help", CLI_HELP, cli_run_help, 0, 1, "[COMMAND]", "help on a command",
      "Explains a command, or lists them all.", "  certmesh help obtain" },
    { NULL, 0, NULL, 0, 0, NULL, NULL, NULL, NULL },
};

const struct cli_command *cli_command_find(const char *name)
{
    for (const struct cli_command *cmd = cli_commands; cmd->name != NULL; cmd++)
        if (strcmp(cmd->name, name) == 0)
            return cmd;
    return NULL;
}
