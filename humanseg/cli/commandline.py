"""The command line around `hydra.main`: what is done before it composes, and one sentence for what can't be composed."""

import os
import re
import select
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from humanseg import terminal
from humanseg.cli import grammar, hydra_private, launch, launchers, resume, sweep, typed
from humanseg.cli.composing import composed, place_of_runs
from humanseg.processes import signals
from humanseg.runs import conf, find, trust
from humanseg.runs.atomic import is_of_the_disk
from humanseg.runs.conf import CONF
from humanseg.runs.locks import lock
from humanseg.runs.overrides import key_of, literal


def run(main: Callable[[], None]) -> None:
    """Call the function that `hydra.main` decorated; a mistake on the command line becomes one sentence and exit code 1."""
    typed_now = grammar.in_order(sys.argv[1:])
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"  # as Hydra reads it
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print its own account of an error and end the process
    conf.use(grammar.config_dirs(typed_now))
    sys.excepthook = terminal.say_traceback
    try:
        sys.argv[1:] = grammar.with_keys_of_sources(grammar.with_paths_as_typed(typed_now))
        typed.remember(sys.argv[1:])
        with _read_to_the_end(), signals.raised(), launch.met(sys.argv[1:]) as main_process, ExitStack() as held:
            if not main_process:
                launch.follow()
                return
            if any(argument.startswith("resume=") for argument in sys.argv):
                going_on = resume.plan(sys.argv[1:])
                if going_on.finished:
                    terminal.say(f"{going_on.folder} is finished")
                    return
                terminal.say(f"resumes    {going_on.folder}")
                held.enter_context(lock(going_on.folder))
                sys.argv[1:] = going_on.arguments
            elif folder := launch.broken_off():
                held.enter_context(lock(folder))
                sys.argv.append(f"hydra.run.dir={literal(str(folder))}")
            sys.argv[1:] = with_checkpoint_groups(with_latest_named(sys.argv[1:]))
            main()
    except signals.Interrupted as stop:
        sys.exit(stop.code)
    except (HydraException, OmegaConfBaseException, ValueError, RuntimeError, yaml.YAMLError) as error:
        if wants_traceback or not (told := explain(error, sys.argv[1:])):
            raise
        sys.exit(terminal.visible(f"error: {told}"))
    except OSError as error:  # after Hydra's, of which one is an OSError
        if wants_traceback or not is_of_the_disk(error):
            raise
        unnamed = f"what Hydra writes in {sweep.claimed[-1]}" if sweep.claimed else "the output"
        sys.exit(terminal.visible(f"error: {error.filename or unnamed} can't be written: {error.strerror}"))


@contextmanager
def _read_to_the_end() -> Iterator[None]:
    """What reads the output may leave early, as in `--help | head`; the end is then that of other programs, without a word."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        if not any(event & select.POLLERR for _, event in poll.poll(0)):
            raise  # it was another pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at the end
        sys.exit(128 + signal.SIGPIPE)


def with_latest_named(arguments: list[str]) -> list[str]:
    """Replace ckpt=latest, and distill=latest, by the path: all jobs of a sweep, and a run that is resumed, have to mean the
    same file."""
    given = typed.values(arguments)
    for key in ("ckpt", "distill"):
        if grammar.read(given.get(key, "")) == "latest":
            named = f"{key}={literal(str(find.checkpoint('latest', place_of_runs(arguments), key)))}"
            arguments = [named if key_of(argument) == key else argument for argument in arguments]
    return arguments


def with_checkpoint_groups(arguments: list[str]) -> list[str]:
    """Put the checkpoint's group choices (data=folder, ...) before the overrides, so that keys of those groups are known.

    Train mode composes its own config and takes only weights from `ckpt=`; the other modes start from the checkpoint's.
    """
    given = typed.values(arguments)
    mode = given.get("mode", "train")
    key = "a" if mode == "compare" else "ckpt"
    if mode == "train" or not given.get(key):
        return arguments
    path = grammar.read(given[key])
    if not isinstance(path, str) or find.test(path):  # several share no choices, and a test's folder has no checkpoint
        return arguments
    found = find.checkpoint(path, place_of_runs(arguments) if path == "latest" else "", key)
    if find.is_exported(found):  # it brings no config
        return arguments
    from humanseg import checkpoint

    choices = trust.safe_choices(checkpoint.load(found)["choices"])
    typed_now = {key_of(key): choice for key, choice in given.items()}
    known = [
        f"{'+' * _is_added(group, choices)}{group}={choice}"
        for group, choice in choices.items()
        if group not in typed_now and _has_place(group, choices, typed_now)
    ]
    return grammar.in_order(known + arguments)


def _has_place(group: str, choices: dict[str, str], typed_now: dict[str, str]) -> bool:
    """Whether what GROUP@PLACE was put into is there: no other choice of the group is typed."""
    root = group.partition("@")[0]
    return root == group or typed_now.get(root, choices.get(root)) == choices.get(root)


def _is_added(group: str, choices: dict[str, str]) -> bool:
    """Whether GROUP@PLACE stands in no defaults list of the group's choice, as `data@data.sources.coco` beside data=mix."""
    root, _, place = group.partition("@")
    node = conf.choice(root, choices[root]) if place and root in choices else {}
    for name in place.split(".")[1:]:
        node = node.get(name) if isinstance(node, dict) else None
    return bool(place) and not node


def explain(error: Exception, arguments: list[str]) -> str:
    """What was wrong with the command line, with the nearest valid name; nothing for a defect."""
    text = str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"{error.problem_mark.name}, line {error.problem_mark.line + 1} is no YAML: {error.problem}"
    if isinstance(error, RuntimeError):
        return launchers.explain(error)
    if isinstance(error, OverrideParseException):
        return _explain_grammar(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        whole = str(error.missing_cfg_file)
        if whole.startswith("hydra/"):
            return _explain_choice(*whole.rpartition("/")[::2], sorted(error.options))
        group, _, choice = whole.partition("/")
        return _explain_choice(group, choice, conf.choices(group))
    if match := re.search(hydra_private.MISSING_CHOICE, text):
        return _explain_choice(match[1], match[2], conf.choices(match[1]))
    if hydra_private.NO_CHOICE in text:
        given = typed.values(arguments)
        wrong = [
            group for group in given if conf.has_group(group) and not isinstance(grammar.read(given[group]), str | list)
        ]
        return "; ".join(_explain_choice(group, given[group], conf.choices(group)) for group in wrong)
    if match := re.search(hydra_private.UNKNOWN_KEY, text):
        return _explain_key(match[1], arguments)
    if match := re.search(hydra_private.KNOWN_KEY, text):
        return f"+{match[1]}: the key exists, type it without the +"
    if told := grammar.explain_interpolation(error, arguments):
        return told
    cause = f" ({terminal.reason(error.__cause__)})" if error.__cause__ else ""
    return " ".join(text.split()) + cause


def _explain_choice(group: str, choice: str, options: list[str]) -> str:
    near = _nearest(choice, options)
    return f"{group}={choice}: there is no such choice{near}; {group} is one of {', '.join(options)}"


def _explain_grammar(error: OverrideParseException) -> str:
    key, _, value = error.override.partition("=")
    return (
        f"{error.override}: Hydra's grammar can't read the value; quote it twice, once for the shell and once for Hydra: "
        + shlex.quote(f"{key}={grammar.suggested(value)}")
    )


def _explain_key(key: str, arguments: list[str]) -> str:
    if modes := [file.stem for file in sorted((CONF / "mode").glob("*.yaml")) if key in OmegaConf.load(file)]:
        named = " or ".join(f"mode={mode}" for mode in modes)
        return f"{key} belongs to {named}: add it, as in `{conf.PROGRAM} mode={modes[-1]} {key}=...`"
    group, _, folder = key.partition("/")
    if there := [name for name in conf.choices(group) if folder and name.startswith(f"{folder}/")]:
        return f"{key}: its choices are those of {group}, as in {group}={there[0]}; there are {', '.join(there)}"
    if key.startswith("data@"):
        return f"{key}: a source is added by +{key}=CHOICE; {_sources_are()}"
    group, _, name = key.partition(".")
    if having := [file.stem for file in sorted((CONF / group).glob("*.yaml")) if name in OmegaConf.load(file)]:
        choices = " or ".join(f"{group}={choice}" for choice in having)
        one = having[0] if len(having) == 1 else "CHOICE"
        return f"{key} belongs to {choices}: choose it, as in `{conf.PROGRAM} {group}={one} {key}=...`"
    groups = [item for item in arguments if conf.has_group(key_of(item).partition("@")[0]) and "=" in item]
    known = _keys(OmegaConf.to_container(composed(groups)))
    if source := re.match(grammar.SOURCE, key):
        if source[0] not in known:
            there = [name for name in known if re.fullmatch(grammar.SOURCE, name)]
            near = _nearest(source[0], there) if there else ""
            return f"{source[0]}: there is no such source{near}; add it by data=mix +data@{source[0]}=CHOICE; {_sources_are()}"
        from humanseg.data import mix

        known += [f"{source[0]}.{name}" for name in mix.OWN if f"{source[0]}.{name}" not in known]
    known += [folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name not in known]
    parent = key.rpartition(".")[0]
    beside = sorted(name for name in known if name.rpartition(".")[0] == parent)
    also = f"; {parent or 'the top level'} has {', '.join(name.split('.')[-1] for name in beside)}" if beside else ""
    return f"{key}: there is no such key{_nearest(key, known)}{also} (a new one is added with +{key}=...)"


def _sources_are() -> str:
    return f"the choices are {', '.join(name for name in conf.choices('data') if name != 'mix')}"


def _keys(node: dict, prefix: str = "") -> list[str]:
    found = []
    for name, value in node.items():
        found += [prefix + name, *(_keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [])]
    return found


def _nearest(name: str, known: list[str]) -> str:
    same = [full for full in known if full.split(".")[-1] == name.split(".")[-1]]
    return terminal.did_you_mean(name, known, 0.5) or "".join(f", did you mean {full}?" for full in same[:1])
