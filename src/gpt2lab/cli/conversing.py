"""`gpt2lab generate --interactive`: one text that a user and a model write in turns, at a terminal."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.progress import harmless, say
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.generate.prompts import Conditioning, fitted
from gpt2lab.generate.requests import Request, check_unicode, with_options

if TYPE_CHECKING:
    from gpt2lab.generate.engine import Engine

LINES_OF_HISTORY = 1000
_ONE_ONLY = ("n", "logprobs")
HELP = """\
What you type is added to the text as a new line, and the model goes on from there; an empty line lets it go on.
  /again           another continuation of the same, with the next seed
  /reset           forget the text
  /options         show all options
  /NAME VALUE      set one: /temperature 0.7, /top-k 40, /max-tokens 200, /seed 3, /stop "\\n"
  /help            this
Ctrl-C ends a continuation, Ctrl-D the conversation. A line that begins with / is typed as //."""


def converse(
    engine: "Engine", options: SamplingOptions, first: str | None, conditioning_of: Callable[[Request], Conditioning]
) -> None:
    """Read lines from standard input and continue them, until it ends. `first` is taken as typed already."""
    from_terminal = sys.stdin.isatty()
    if from_terminal:
        _keep_history()
        say("/help tells the commands; Ctrl-D ends.")
    text = before = ""
    line: str | None = first
    while True:
        if line is None:
            try:
                line = input("> " if from_terminal else "")
            except EOFError:
                if from_terminal:
                    print()
                return
            except KeyboardInterrupt:
                print()
                continue
            except UnicodeDecodeError:
                say("error: this line is not UTF-8.")
                continue
            if from_terminal:
                _remember()
        typed, line = line, None
        try:
            if typed.startswith("/") and not typed.startswith("//"):
                command, _, value = typed[1:].strip().partition(" ")
                if command == "again":
                    text = before
                elif command == "reset":
                    text = before = ""
                    continue
                else:
                    options = _changed(options, command, value.strip())
                    continue
            else:
                typed = typed.removeprefix("/") if typed.startswith("//") else typed
                check_unicode(typed, "this line")
                before = _joined(text, typed)
        except (BadInput, BadOption) as error:
            say(f"error: {error}")
            continue
        text = before + _continuation(engine, before, options, conditioning_of)
        options = replace(options, seed=(options.seed + 1) % 2**63)


def _joined(text: str, typed: str) -> str:
    """The text with a line more, as it stands on the screen."""
    return f"{text}\n{typed}" if text and typed and not text.endswith("\n") else text + typed


def _continuation(
    engine: "Engine", text: str, options: SamplingOptions, conditioning_of: Callable[[Request], Conditioning]
) -> str:
    """Stream what follows the text; gives it, as far as it came before Ctrl-C."""
    context_length = engine.backend.config.context_length
    prompt, _ = fitted(conditioning_of(Request(text, options)), engine.tokenizer, context_length, options.max_tokens)
    if len(engine.tokenizer.encode(prompt)) + min(options.max_tokens, context_length // 2) > context_length:
        # Of a text that has outgrown the context, the newest part: not so much that the window slides at once.
        whole = Conditioning("", text, keep="end")
        prompt, _ = fitted(whole, engine.tokenizer, context_length, options.max_tokens)
    generation = engine.submit(prompt, options)
    shown = harmless if sys.stdout.isatty() else str
    said = ""
    try:
        for piece in generation:
            said += piece
            print(shown(piece), end="", flush=True)
    except KeyboardInterrupt:
        generation.cancel()
    print(flush=True)
    return said


def _changed(options: SamplingOptions, command: str, value: str) -> SamplingOptions:
    """The options after a command, which may only show something."""
    name = command.replace("-", "_")
    settable = [field.name for field in fields(options) if field.name not in _ONE_ONLY]
    if command == "help":
        print(HELP)
    elif command == "options":
        for option in settable:
            print(_command(option), _as_json(getattr(options, option)))
    elif name in _ONE_ONLY:
        raise BadOption(f"/{command}: a conversation has one continuation at a time.")
    elif name not in settable:
        listed = ", ".join(map(_command, settable))
        raise BadOption(f"/{command} is no command; /help tells them, and the options are {listed}.")
    elif not value:
        raise BadOption(f"/{command} lacks its value; now it is {_as_json(getattr(options, name))}.")
    else:
        return with_options(options, {name: _value(value)})
    return options


def _command(option: str) -> str:
    return f"/{option.replace('_', '-')}"


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _history_file() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "gpt2lab" / "generate_history"


def _keep_history() -> None:
    """Editing and history of lines, where this Python has readline."""
    try:
        import readline
    except ImportError:
        return
    file = _history_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        readline.read_history_file(file)
    except OSError as error:
        say(f"{file}: {error.strerror}; what you type is not kept.")
    readline.set_history_length(LINES_OF_HISTORY)


def _remember() -> None:
    """Write the history now: a terminal that is closed gives no time for it later."""
    if (readline := sys.modules.get("readline")) is not None:
        try:
            readline.write_history_file(_history_file())
        except OSError:
            return  # said when it was opened
