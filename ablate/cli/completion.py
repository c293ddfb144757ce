"""`ablate completion`: a script for the shell, and what that script asks for as one types."""

from __future__ import annotations

import argparse

from ablate.cli.parse import parser_of

_BASH = """\
# bash completion for ablate. In ~/.bashrc:  eval "$(ablate completion bash)"
_ablate_complete() {
    local line="${COMP_LINE:0:COMP_POINT}" word before
    word="${line##*[[:space:]]}"
    local IFS=$'\\n'
    COMPREPLY=($(ablate completion --words "$line" 2>/dev/null))
    # bash has split the word at each = and wants only what stands after the last one
    before="${word%"${word##*[=:]}"}"
    if [[ -n $before && $COMP_WORDBREAKS == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"$before"}"); fi
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _ablate_complete ablate
"""
_ZSH = """\
#compdef ablate
# zsh completion for ablate. In ~/.zshrc, after compinit:  eval "$(ablate completion zsh)"
_ablate_complete() {
    local -a found open whole
    found=("${(@f)$(ablate completion --words "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    open=(${(M)found:#*[=/]})
    whole=(${found:#*[=/]})
    (( $#open )) && compadd -Q -S '' -- $open
    (( $#whole )) && compadd -Q -- $whole
}
if [[ $funcstack[1] == _ablate ]]; then _ablate_complete "$@"; else compdef _ablate_complete ablate; fi
"""
_FISH = """\
# fish completion for ablate. Once:  ablate completion fish > ~/.config/fish/completions/ablate.fish
function __ablate_complete
    ablate completion --words (commandline -cp | string collect) 2>/dev/null
end
complete -c ablate -f -a '(__ablate_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run(typed: list[str]) -> int:
    parser = parser_of(
        "completion",
        "Print what makes a shell complete ablate's verbs, options, run folders, axes, config groups and keys.",
        'ablate completion bash     in ~/.bashrc:  eval "$(ablate completion bash)"',
        'ablate completion zsh      in ~/.zshrc, after compinit:  eval "$(ablate completion zsh)"',
        "ablate completion fish > ~/.config/fish/completions/ablate.fish",
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("shell", nargs="?", choices=tuple(SCRIPTS), help="bash, zsh or fish")
    how.add_argument("--words", metavar="LINE", help=argparse.SUPPRESS)
    asked = parser.parse_args(typed)
    if asked.words is None:
        print(SCRIPTS[asked.shell], end="")
        return 0
    from ablate.cli import VERBS
    from ablate.cli.complete import candidates

    for word in candidates(asked.words, VERBS):
        print(word)
    return 0
