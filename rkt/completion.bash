# Completion of rkt's command lines for bash. Verbs and flags are those that "rkt help" tells of, so that they can't differ.

_rkt_flags() { rkt help "$@" 2>/dev/null | grep -oE -- '--[a-z][-a-z0-9]*=?' | sort -u; }

# All UUIDs of pods, and what was written so far of one.
_rkt_pods() { rkt list --full --no-legend 2>/dev/null | grep -oE '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'; }

_rkt_images() { rkt image list --full --no-legend --fields=name 2>/dev/null; }

_rkt() {
	local cur=${COMP_WORDS[COMP_CWORD]} verb= i words=
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-*) ;;
		*) verb=${COMP_WORDS[i]}; break ;;
		esac
	done
	case $verb:$cur in
	*:--*=*) return ;; # a value
	:-*) words=$(_rkt_flags) ;;
	*:-*) words=$(_rkt_flags "$verb") ;;
	: | :[!-]* | help:*) words=$(rkt help 2>/dev/null | sed -n '/^Commands/,/^$/s/^  \([a-z][-a-z]*\) .*/\1/p') ;;
	attach:* | enter:* | status:* | cat-manifest:* | stop:* | kill:* | logs:* | cp:* | rm:* | gc:* | export:* | run-prepared:*) words=$(_rkt_pods) ;;
	net:*) if ((i + 1 < COMP_CWORD)); then words=$(_rkt_pods); else words='add check del'; fi ;;
	image:*) if ((i + 1 < COMP_CWORD)); then words=$(_rkt_images); else words='cat-manifest df export extract gc import list reindex render rm verify'; fi ;;
	volume:*) if ((i + 1 < COMP_CWORD)); then words=$(rkt volume list --no-legend 2>/dev/null | cut -d' ' -f1); else words='list rm'; fi ;;
	run:* | prepare:* | fetch:*) words=$(_rkt_images) ;;
	completion:*) words=bash ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}

complete -o default -F _rkt rkt
