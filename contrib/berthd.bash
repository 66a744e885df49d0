# Completion of berthd for bash. The flags are those that the installed berthd has.
_berthd() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=
	[ "$COMP_CWORD" -le 1 ] || case ${COMP_WORDS[1]} in reload | config | doctor) command=${COMP_WORDS[1]} ;; esac
	case $prev in
	--*file | --*root | --tlscacert | --tlscert | --tlskey | --init-path | --seccomp-profile)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--log-level | -l) mapfile -t COMPREPLY < <(compgen -W 'trace debug info warn error fatal panic' -- "$cur") && return ;;
	--log-format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$cur") && return ;;
	esac
	case $cur in
	-*) mapfile -t COMPREPLY < <(compgen -W "$(berthd $command --help 2>&1 | grep -oE -- '--[a-z][a-z0-9-]*' | sort -u)" -- "$cur") ;;
	*) [ "$COMP_CWORD" -ne 1 ] || mapfile -t COMPREPLY < <(compgen -W 'reload config doctor' -- "$cur") ;;
	esac
}
complete -F _berthd berthd
