#compdef rkt
# Completion of rkt's command lines for zsh. "rkt completion words" says what may follow.

_rkt() {
	local line word
	local -a whole begun
	for line in "${(@f)$(rkt completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		[[ -n $line ]] || continue
		word=${line%%$'\t'*}
		word=${word//:/\\:}:${line#*$'\t'}
		if [[ ${line%%$'\t'*} == *= ]]; then begun+=("$word"); else whole+=("$word"); fi
	done
	(( $#whole + $#begun )) || { _files; return; }
	_describe -t words 'rkt' whole -- begun -S ''
}

if [[ $funcstack[1] == _rkt ]]; then
	_rkt "$@"
else
	compdef _rkt rkt
fi
