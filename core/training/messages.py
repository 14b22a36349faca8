"""What jsonargparse found wrong with a configuration, in one line and with the nearest known name."""

import re
from collections.abc import Iterable, Mapping

from ornstein.core.config import constructor_parameters, near, resolve_class

__all__ = ["explain"]

KEY = re.compile(r'Parser key "([^"]+)"')
GIVEN_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
UNKNOWN = re.compile(r"(?:Option|Key) '([^']+)' is not (?:accepted|expected)|unrecognized arguments: --([^\s=]+)")
NOT_IN_GROUP = re.compile(r"Group '([^']+)' does not accept option '([^']+)'")
NO_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
MISSING_CLASS = re.compile(r"has no attribute '|No module named|[Uu]nable to import|not found in module")
BASE_CLASS = re.compile(r"Subtypes: \[<class '([^']+)'>")
NO_SUBCLASS = re.compile(r"Import path (\S+) does not correspond to a subclass of (\w+)")
WRONG_VALUE = re.compile(r"Expected a (.+?)\. Got value: (.*)")
ALTERNATIVE = re.compile(r"- Expected a (<class '[^']+'>|typing\.\w+\[[^\n]*\])$", re.MULTILINE)
GIVEN_VALUE = re.compile(r"Given value: (?:NestedArg\(key='[^']*', val=)?(.+?)\)?$", re.MULTILINE)


def explain(message: str, groups: Mapping[str, Iterable[str]]) -> str:
    """One line for a message of jsonargparse.

    Args:
        message: its text, one line a level of the configuration.
        groups: the sections of a configuration and the keys of each; empty for sections that hold a class.
    """
    where = ".".join(KEY.findall(message))
    classes = GIVEN_CLASS.findall(message)
    if match := UNKNOWN.search(message):
        return _unknown(match[1] or match[2], classes, groups)
    if match := NOT_IN_GROUP.search(message):
        return _unknown(f"{match[1]}.{match[2]}", [], groups)
    if match := NO_CLASS.search(message):
        base = _class(BASE_CLASS.findall(message)[-1])
        known = {cls.__name__ for cls in _subclasses(base)} if base else set()
        name = base.__name__ if base else "class"
        return f"{where}: there is no {name} {match[1]!r}{near(match[1], known)}; give a class path"
    if classes and MISSING_CLASS.search(message):
        try:
            resolve_class(classes[-1], trusted=(classes[-1].split(".")[0],))
        except (ValueError, ImportError) as error:
            return f"{where}: {_line(str(error))}"
    if match := NO_SUBCLASS.search(message):
        return f"{where}: {match[1]} is no {match[2]}; give the class path of one"
    if match := WRONG_VALUE.search(message):
        return _wrong(where, [match[1]], match[2])
    alternatives = ALTERNATIVE.findall(message)
    if where and alternatives and len(alternatives) > 1 and not classes:
        given = GIVEN_VALUE.search(message)
        return _wrong(where, alternatives, given[1] if given else "another kind")
    if "required: " in message:
        return f"{_line(message)}; give them in a file, --config FILE"
    return _line(re.sub(r"\s*Given value(?: type)?:.*", "", message).removeprefix('Parser key "config": '))


def _unknown(key: str, classes: list[str], groups: Mapping[str, Iterable[str]]) -> str:
    first, _, rest = key.partition(".")
    cls = _class(classes[-1]) if classes else None
    if cls is not None:
        known = list(constructor_parameters(cls))
        return f"{cls.__name__} has no argument {first!r}{near(first, known)}; it has {', '.join(known)}"
    if first in groups and rest:
        known = list(groups[first])
        return f"{first} has no key {rest!r}{near(rest, known)}"
    return f"unknown key {first!r}{near(first, groups)}; a configuration has {', '.join(groups)}"


def _wrong(where: str, expected: list[str], given: str) -> str:
    choices: list[str] = []
    for text in expected:
        if text.startswith("typing.Literal"):
            choices += [word or number for word, number in re.findall(r"'([^']*)'|(\d+)", text)]
        else:
            choices.append(text.removeprefix("<class '").removesuffix("'>").replace("NoneType", "null"))
    given = given.strip("'\"")
    hint = near(given, choices)
    return f"{where} must be {' or '.join(dict.fromkeys(choices))}, got {given!r}{hint}"


def _class(path: str) -> type | None:
    try:
        return resolve_class(path, trusted=(path.split(".")[0],))
    except (ValueError, ImportError):
        return None


def _subclasses(cls: type) -> set[type]:
    found: set[type] = {cls}
    children: list[type] = cls.__subclasses__()
    for child in children:
        found |= _subclasses(child)
    return found


def _line(message: str) -> str:
    return " ".join(message.split())
