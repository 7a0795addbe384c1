# Completion of rkt's command lines for fish. "rkt completion words" says what may follow.

function __rkt_words
	set -l typed (commandline -opc) (commandline -ct)
	set -l found (rkt completion words -- $typed[2..-1] 2>/dev/null)
	if test (count $found) -gt 0
		printf '%s\n' $found
	else
		__fish_complete_path (commandline -ct)
	end
end

complete -c rkt -f -a '(__rkt_words)'
