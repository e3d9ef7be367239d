# SPDX-License-Identifier: Apache-2.0
# bash completion for certmesh(1). Commands and options are asked of the command itself.
# shellcheck shell=bash

_certmesh() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' i
    local commands='obtain renew revoke list show status why fleet serve clean storage account dns cas trust version help'

    for ((i = 1; i < COMP_CWORD; i++)); do
        case " $commands " in
        *" ${COMP_WORDS[i]} "*)
            command=${COMP_WORDS[i]}
            break
            ;;
        esac
    done
    COMPREPLY=()
    case $before in
    --dir | --root | --autocert)
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        return
        ;;
    --*-file | --ca-root | --account-key | --out | --output | -o | --cert | --key)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --ca) set -- 'letsencrypt letsencrypt-staging internal https://' ;;
    --fallback-ca | --test-ca) set -- 'letsencrypt letsencrypt-staging https://' ;;
    --issuer) set -- 'acme zerossl' ;;
    --ca-order) set -- 'listed random' ;;
    --log-format) set -- 'text json' ;;
    --rate) set -- 'off' ;;
    --challenge) set -- 'http-01 tls-alpn-01 dns-01 dns-account-01 dns-persist-01' ;;
    --dns) set -- 'rfc2136://' ;;
    --key-type) set -- 'p256 p384 rsa2048 rsa3072 rsa4096 rsa8192 ed25519' ;;
    --reason)
        set -- 'unspecified keyCompromise affiliationChanged superseded cessationOfOperation'
        ;;
    *)
        if [ -z "$command" ]; then
            set -- "$commands"
        elif [[ $word == -* ]]; then
            set -- "$(certmesh help "$command" 2>/dev/null |
                sed -n 's/^  [ -].  *\(--[a-z-]*\).*/\1/p; s/^  -. \(--[a-z-]*\).*/\1/p' | xargs)"
        elif [ "$command" = account ]; then
            set -- 'show register update rollover deactivate'
        elif [ "$command" = dns ] && [ "$before" = dns ]; then
            set -- 'persist'
        elif [ "$command" = storage ] && [ "$before" = storage ]; then
            set -- 'ls stat get put rm export import copy migrate check'
        elif [ "$command" = storage ]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
        elif [ "$command" = help ]; then
            set -- "$commands"
        else
            return
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$word")
}
complete -F _certmesh certmesh
