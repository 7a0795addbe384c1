# Completion of rkt's command lines for bash. "rkt completion words" says what may follow.

_rkt() {
	mapfile -t COMPREPLY < <(rkt completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1)
	if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}

complete -o default -F _rkt rkt
